/**
 * What a wake from disk is judged by (DESIGN §4.8): a *census* of the sandbox, taken before it fell asleep and again before anybody is let in. Between the
 * two a program may end by itself, for its timers fire at the wake: that is its own affair and told, but nothing was lost by it. What was killed, is
 * gone without a trace, or listens no more although its program still runs was.
 */
import type { Check } from '@torpor/contracts';

export interface Census {
  /** The wall clock inside, ms since the epoch. */
  readonly atMs: number;
  readonly generation: number;
  /** What `/run/torpor/generation` says; null: nothing. */
  readonly published: number | null;
  readonly processes: readonly { readonly id: string; readonly pid: number; readonly name: string }[];
  readonly ports: readonly {
    readonly port: number;
    readonly address: string;
    readonly processId?: string | undefined;
  }[];
}

/** What became of a process that was there before and is not now. */
export type Fate =
  | { readonly kind: 'untraced' }
  | {
      readonly kind: 'ended';
      readonly atMs: number;
      readonly code: number;
      /** Its time limit passed, or its memory ran out: the guest ended it for a reason of its own. */
      readonly byGuest: boolean;
    };

export interface Wake {
  /** `undefined`: nobody could say before it slept. */
  readonly before: Census | undefined;
  readonly now: Census;
  /** Which it came back with; it may have been told of a greater one since, and then `now` has that. */
  readonly cameAs: number;
  /** Which it must have now. */
  readonly generation: number;
  /** What programs read of it: as it must be, or not, and then by our doing it is again, or is not. */
  readonly file: 'right' | 'written again' | 'wrong';
  /** When the restore began, and between which instants the census was taken; by the clock of the node. */
  readonly restoredAtMs: number;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  /** Of each process that is missing now. */
  readonly fates: ReadonlyMap<string, Fate>;
}

const CLOCK_MS = 1_000;
/** A shell tells the signal that ended its program in its own exit code. KILL, and those of a program that crashes: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS. */
const VIOLENT = new Set([9, 4, 5, 6, 7, 8, 11, 31].map((signal) => 128 + signal));

export function missing(before: Census | undefined, now: Census): Census['processes'] {
  const there = new Set(now.processes.map(({ id }) => id));
  return before?.processes.filter(({ id }) => !there.has(id)) ?? [];
}

export function compare(wake: Wake): Check[] {
  return [processesOf(wake), listenersOf(wake), generationOf(wake), clockOf(wake)];
}

/** Whether it came back as less than it was. A clock that is wrong is no loss, and no older image has a better one. */
export function isShort(checks: readonly Check[]): boolean {
  return checks.some(({ what, outcome }) => outcome === 'failed' && what !== 'clock');
}

/**
 * Whether an older image is worth what happened since: not for a listener alone. A program that runs on may have closed it itself, because its timers fire
 * at the wake, and would do so after every other restore.
 */
export function isTorn(checks: readonly Check[]): boolean {
  return isShort(checks.filter(({ what }) => what !== 'listeners'));
}

function processesOf(wake: Wake): Check {
  const { before, now, fates } = wake;
  if (!before) return unknownBefore('processes');
  const told = missing(before, now).map((process) => {
    const fate = fates.get(process.id) ?? { kind: 'untraced' };
    const named = process.name === '' ? process.id : `"${process.name}"`;
    return { isLost: isLost(fate, wake), text: `${named} ${inWords(fate, wake)}` };
  });
  const lost = told.filter((one) => one.isLost);
  const here = before.processes.length - told.length;
  const found = [`${here} of ${before.processes.length} run`, ...told.map(({ text }) => text)].join('; ');
  return { what: 'processes', outcome: lost.length > 0 ? 'failed' : 'passed', found };
}

function isLost(fate: Fate, { restoredAtMs }: Wake): boolean {
  if (fate.kind === 'untraced') return true;
  return fate.atMs >= restoredAtMs && !fate.byGuest && VIOLENT.has(fate.code);
}

function inWords(fate: Fate, wake: Wake): string {
  if (fate.kind === 'untraced') return 'is gone without a trace';
  const when = fate.atMs < wake.restoredAtMs ? 'just before it slept' : 'at the wake';
  if (isLost(fate, wake)) return `was killed at the wake (exit code ${fate.code})`;
  return `ended by itself ${when} (exit code ${fate.code})`;
}

function listenersOf({ before, now }: Wake): Check {
  if (!before) return unknownBefore('listeners');
  const open = new Set(now.ports.map(placeOf));
  const ended = new Set(missing(before, now).map(({ id }) => id));
  const shut = before.ports.filter((one) => !open.has(placeOf(one)));
  const lost = shut.filter(({ processId }) => processId === undefined || !ended.has(processId));
  const found = [
    `${before.ports.length - shut.length} of ${before.ports.length} listen`,
    ...lost.map((one) => `nothing listens at ${placeOf(one)} any more`),
    ...shut.filter((one) => !lost.includes(one)).map((one) => `${placeOf(one)} ended with its program`),
  ].join('; ');
  return { what: 'listeners', outcome: lost.length > 0 ? 'failed' : 'passed', found };
}

function placeOf({ address, port }: Census['ports'][number]): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function generationOf({ before, now, cameAs, generation, file }: Wake): Check {
  const cameRight = before === undefined || cameAs === before.generation;
  const outcome = now.generation === generation && cameRight ? 'passed' : 'failed';
  const told =
    cameAs === now.generation ? '' : `came back as ${cameAs}${cameRight ? '' : `, slept as ${before.generation}`}; `;
  return {
    what: 'generation',
    outcome,
    found: `${told}${now.generation}, expected ${generation}; its file is ${file}`,
  };
}

/** The guest looked at its clock at some instant between the question and the answer. */
function clockOf({ now, askedAtMs, answeredAtMs }: Wake): Check {
  const behindMs = Math.max(0, askedAtMs - now.atMs);
  const aheadMs = Math.max(0, now.atMs - answeredAtMs);
  const offMs = Math.max(behindMs, aheadMs);
  const way = behindMs > 0 ? 'behind' : 'ahead of';
  const found = offMs === 0 ? 'the same as its node’s' : `${Math.round(offMs)} ms ${way} its node’s`;
  return { what: 'clock', outcome: offMs <= CLOCK_MS ? 'passed' : 'failed', found };
}

function unknownBefore(what: 'processes' | 'listeners'): Check {
  return { what, outcome: 'not checked', found: 'nobody could say what there was before it slept' };
}
