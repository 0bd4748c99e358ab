import type { Clock } from '@torpor/kernel';
import type { FakeFiles } from './files.ts';
import type { Gate } from './gate.ts';

/**
 * Time inside a fake instance. While it is frozen nothing happens: a timer that would have fired fires at the resume, as in gVisor, whose monotonic
 * time goes on (DESIGN §4.8).
 */
export interface Inside {
  readonly clock: Clock;
  readonly gate: Gate;
  /** Counts work, so that the usage figures move when something was done and stand still otherwise. */
  spend(cpuNs: number): void;
  /** What lies in its directory of volumes under this name. */
  volume(name: string): FakeFiles | undefined;
}

export async function afterInside(inside: Inside, ms: number, signal?: AbortSignal): Promise<void> {
  await inside.clock.after(ms, signal);
  await inside.gate.passed();
}
