/**
 * A trace of uses: when each of many sandboxes was used. Written as a line for each, `name,bytes of RAM in MiB,seconds from the use before, …`; the first span counts from the beginning.
 *
 * `test/bench/traces/uses.csv` was made by `makeUses` (seed 4). Its shapes are those of two published traces, for nobody has published one of sandboxes:
 *
 * - *coding*: an agent that works for a person. 3.95 turns a session and 7.3 tool calls a turn on average, from "Agentic Coding in the Wild" (Liu et al.,
 *   arXiv 2608.00101, GitHub Copilot, June 2026). Assumed by us, log-normal: 4 s from call to call, 90 s from turn to turn, 7 h from session to session.
 * - *service* and *timer*: "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020, Azure Functions, July 2019): 45 % of the applications are invoked at most
 *   once an hour, 81 % at most once a minute, rates range over many orders of magnitude; 16 % of functions run by a timer. Assumed: services are Poisson under a
 *   rate that is log-uniform within those bounds (those above once a minute never sleep, and are left out), and one in ten changes its rate midway.
 */
import { readFile } from 'node:fs/promises';
import { seededChance, type Chance } from '@torpor/kernel';

export interface Used {
  readonly name: string;
  readonly ramMib: number;
  /** When it was used, ms from the beginning, in order. */
  readonly atMs: readonly number[];
}

const SPAN_S = 14 * 86_400;
const USES_MAX = 1_500;

export async function readUses(path: string): Promise<readonly Used[]> {
  const lines = (await readFile(path, 'utf8')).split('\n').filter(Boolean);
  return lines.map((line) => {
    const [name = '', ramMib, ...spans] = line.split(',');
    let nowS = 0;
    return { name, ramMib: Number(ramMib), atMs: spans.map((span) => (nowS += Number(span)) * 1_000) };
  });
}

export function writtenUses(all: readonly Used[]): string {
  const lines = all.map(({ name, ramMib, atMs }) => {
    const spans = atMs.map((at, index) => Math.round((at - (atMs[index - 1] ?? 0)) / 1_000));
    return [name, ramMib, ...spans].join(',');
  });
  return `${lines.join('\n')}\n`;
}

export function makeUses(seed: number): readonly Used[] {
  const chance = seededChance(seed);
  const kinds = { coding: 24, service: 26, timer: 10 };
  return Object.entries(kinds).flatMap(([kind, count]) =>
    Array.from({ length: count }, (_, index) => {
      const spans =
        kind === 'coding' ? codingSpans(chance) : kind === 'timer' ? timerSpans(chance) : serviceSpans(chance);
      const ramMib = Math.round(between(chance, 40, 400));
      return { name: `${kind}-${index + 1}`, ramMib, atMs: within(spans) };
    }),
  );
}

function* codingSpans(chance: Chance): Generator<number> {
  for (;;) {
    yield logNormal(chance, 7 * 3_600, 1);
    for (let turn = geometric(chance, 3.95); turn > 0; turn--) {
      for (let call = geometric(chance, 7.3); call > 0; call--) yield logNormal(chance, 4, 1);
      yield logNormal(chance, 90, 1.3);
    }
  }
}

function* serviceSpans(chance: Chance): Generator<number> {
  let perS = serviceRate(chance);
  const changesAtS = chance.fraction() < 0.1 ? SPAN_S / 2 : Infinity;
  for (let nowS = 0; ;) {
    if (nowS > changesAtS) perS = serviceRate(chance);
    const span = -Math.log(1 - chance.fraction()) / perS;
    nowS += span;
    yield span;
  }
}

/** Of those at most once a minute, 45 in 81 at most once an hour. */
function serviceRate(chance: Chance): number {
  const [least, most] = chance.fraction() < 45 / 81 ? [1 / 604_800, 1 / 3_600] : [1 / 3_600, 1 / 60];
  return least * (most / least) ** chance.fraction();
}

function* timerSpans(chance: Chance): Generator<number> {
  const everyS = [60, 300, 900, 3_600, 86_400][Math.floor(chance.fraction() * 5)] ?? 60;
  for (;;) yield everyS;
}

function within(spans: Iterable<number>): number[] {
  const at: number[] = [];
  let nowS = 0;
  for (const span of spans) {
    nowS += span;
    if (nowS > SPAN_S || at.length === USES_MAX) return at;
    at.push(Math.round(nowS) * 1_000);
  }
  return at;
}

function between(chance: Chance, least: number, most: number): number {
  return least + (most - least) * chance.fraction();
}

/** How many, at least one, `mean` on average. */
function geometric(chance: Chance, mean: number): number {
  return 1 + Math.floor(Math.log(1 - chance.fraction()) / Math.log(1 - 1 / mean));
}

export function logNormal(chance: Chance, median: number, spread: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - chance.fraction())) * Math.cos(2 * Math.PI * chance.fraction());
  return median * Math.exp(spread * normal);
}
