/** What a benchmark has to say: figures, each with its goal and the floor it was measured beside, as a table for people or one object for programs. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

export interface Figure {
  readonly value: number;
  readonly unit: string;
  /** `≤ 5` or `≥ 0.6`; absent: told, not judged. */
  readonly goal?: { readonly kind: 'at most' | 'at least'; readonly than: number };
  /** The same work without us, in the same run. */
  readonly floor?: number;
}

export class Figures {
  readonly #bench: string;
  readonly #figures = new Map<string, Figure>();
  readonly #notes: string[] = [];
  readonly #processorAtStart = processorTimes();

  constructor(bench: string) {
    this.#bench = bench;
  }

  /** Told at once as well, on stderr: a long run that fails at its end has not been for nothing. */
  add(name: string, figure: Figure): void {
    this.#figures.set(name, figure);
    process.stderr.write(`${row(name, figure, holds(figure))}\n`);
  }

  note(text: string): void {
    this.#notes.push(text);
  }

  /** Prints, and sets the exit code: 0 only when every goal holds. */
  report(json: boolean): void {
    this.note(`while this ran, ${withheld(this.#processorAtStart, processorTimes())}; ${speed()}`);
    const rows = [...this.#figures].map(([name, figure]) => ({ name, figure, ok: holds(figure) }));
    if (json) {
      const figures = Object.fromEntries(
        rows.map(({ name, figure, ok }) => [
          name,
          {
            value: round(figure.value),
            unit: figure.unit,
            goal: figure.goal ? goalText(figure.goal) : null,
            floor: figure.floor === undefined ? null : round(figure.floor),
            ok,
          },
        ]),
      );
      process.stdout.write(
        `${JSON.stringify({ bench: this.#bench, machine: machine(), figures, notes: this.#notes })}\n`,
      );
    } else {
      process.stdout.write(`\n${this.#bench} — ${machine()}\n\n`);
      for (const { name, figure, ok } of rows) process.stdout.write(`${row(name, figure, ok)}\n`);
      for (const note of this.#notes) process.stdout.write(`  · ${note}\n`);
    }
    process.exitCode = rows.every(({ ok }) => ok) ? 0 : 1;
  }
}

function row(name: string, figure: Figure, ok: boolean): string {
  const value = `${round(figure.value)} ${figure.unit}`.padStart(16);
  const floor = figure.floor === undefined ? '' : `floor ${round(figure.floor)}`;
  const verdict = figure.goal === undefined ? '' : `${ok ? 'ok  ' : 'MISS'} goal ${goalText(figure.goal)}`;
  return `  ${name.padEnd(58)}${value}  ${floor.padEnd(16)} ${verdict}`.trimEnd();
}

function holds({ value, goal }: Figure): boolean {
  if (!Number.isFinite(value)) return false;
  if (!goal) return true;
  return goal.kind === 'at most' ? value <= goal.than : value >= goal.than;
}

function goalText(goal: NonNullable<Figure['goal']>): string {
  return `${goal.kind === 'at most' ? '≤' : '≥'} ${goal.than}`;
}

function round(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

interface ProcessorTimes {
  readonly stolen: number;
  readonly total: number;
}

/** From `/proc/stat`, in ticks of all processors: how long this machine was runnable without being run by its host, and all there was. */
function processorTimes(): ProcessorTimes {
  const line = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] ?? '';
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  return { stolen: ticks[7] ?? 0, total: ticks.reduce((sum, each) => sum + each, 0) };
}

function withheld(before: ProcessorTimes, after: ProcessorTimes): string {
  const share = (after.stolen - before.stolen) / Math.max(1, after.total - before.total);
  return `the hypervisor withheld ${(share * 100).toFixed(1)} % of the processors (steal)`;
}

/** A yardstick for absolute figures: a chain of 30 million multiply-adds, best of five. Each is 4 cycles, so a core of 3 GHz that is left alone takes 40 ms. */
function speed(): string {
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    let word = round;
    for (let n = 0; n < 3e7; n++) word = (Math.imul(word, 1_664_525) + 1_013_904_223) | 0;
    if (word !== 0.5) best = Math.min(best, performance.now() - start);
  }
  return `a chain of 30 million multiply-adds took ${best.toFixed(0)} ms (a core of 3 GHz left alone: 40)`;
}

function machine(): string {
  return `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.versions.node}`;
}

export const atMost = (than: number) => ({ kind: 'at most', than }) as const;
export const atLeast = (than: number) => ({ kind: 'at least', than }) as const;

/** The q-quantile (0 … 1) by nearest rank. NaN for none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))] ?? Number.NaN;
}

export const median = (values: readonly number[]) => quantile(values, 0.5);
