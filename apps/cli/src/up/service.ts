import type { ChildProcess } from 'node:child_process';

/** One child of the supervisor, as data. */
export interface Service {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Absent: root. */
  readonly user?: { uid: number; gid: number };
  readonly cwd?: string;
  /** Services that must be healthy before this one starts. */
  readonly needs: readonly string[];
  /** Says whether it does its work, by its own word; rejects while it does not answer. */
  readonly isHealthy: () => Promise<boolean>;
  /** How it is asked to end (default SIGTERM), and how long that may take. */
  readonly stop: { readonly signal?: NodeJS.Signals; readonly graceMs: number };
  /** What it is sent instead when the whole stack goes down in good order: it puts to rest what it keeps, then ends. */
  readonly restSignal?: NodeJS.Signals;
  /** How long it may take to become healthy. */
  readonly startMs: number;
}

/** What became of one start of a service. */
export interface Running {
  readonly child: ChildProcess;
  readonly startedAtMs: number;
  /** Resolves when it has ended and that is known here. */
  readonly ended: Promise<void>;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** A program that cannot start gives up well before; one that was killed at its work must be back at once, however often that happens. */
const STEADY_MS = 2_000;

/** How long to wait before the next start: doubling with each quick failure, forgotten after a steady run. Pure. */
export function pauseBeforeRestart(quickFailures: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(quickFailures, 10));
}

export function countsAsQuick(ranMs: number): boolean {
  return ranMs < STEADY_MS;
}

/** Groups in which services start: each group's needs lie in earlier ones. Throws where needs go round or name nobody. */
export function startOrder(services: readonly Pick<Service, 'name' | 'needs'>[]): string[][] {
  const groups: string[][] = [];
  const started = new Set<string>();
  while (started.size < services.length) {
    const ready = services.filter(({ name, needs }) => !started.has(name) && needs.every((need) => started.has(need)));
    if (ready.length === 0) {
      const stuck = services
        .filter(({ name }) => !started.has(name))
        .map(({ name, needs }) => `${name} needs ${needs.join(', ')}`);
      throw new Error(`these services wait for each other or for nobody: ${stuck.join('; ')}`);
    }
    groups.push(ready.map(({ name }) => name));
    for (const { name } of ready) started.add(name);
  }
  return groups;
}
