/** Where a sandbox sleeps and what waking it takes, in a person's words. */
import type { SandboxView } from '@torpor/api';
import { isAsleep, type WakeTier } from '@torpor/contracts';

type Asleep = Pick<SandboxView, 'state' | 'tier' | 'wakeMs' | 'wakes'>;

/** Undefined when nobody knows, or it neither runs nor sleeps. */
export function tierOf({ state, tier }: Asleep): string | undefined {
  if (state === 'running') return 'running';
  if (state === undefined || !isAsleep(state)) return undefined;
  switch (tier) {
    case 'stored':
      return 'stored';
    case 'files':
      return 'files only';
    case 'lean':
      return 'paged out';
    default:
      return 'asleep in RAM';
  }
}

/** Of its wakes from one tier. */
export function wakesFrom(tier: WakeTier, { wakes }: Asleep): string {
  const record = wakes?.[tier];
  if (!record) return 'no wake measured yet';
  const { lastMs, predictedMs, measured } = record;
  return `the last took ${ms(lastMs)}; about ${ms(predictedMs)} is to be expected (${measured} measured)`;
}

/** What its next wake takes, if it sleeps. */
export function nextWake(view: Asleep): string {
  if (view.state === undefined || !isAsleep(view.state)) return '';
  return view.wakeMs === undefined ? 'not measured' : `~${ms(view.wakeMs)}`;
}

export function ms(span: number): string {
  return span < 10
    ? `${span.toFixed(1)} ms`
    : span < 10_000
      ? `${Math.round(span)} ms`
      : `${(span / 1000).toFixed(1)} s`;
}
