/** What a benchmark has to say: figures, each with its goal and the floor it was measured beside, as a table for people or one object for programs. */
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
