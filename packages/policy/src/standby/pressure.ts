/**
 * Which sleepers give up their RAM first when their host is short of it. Harm is the chance to be wanted soon times what the wake then takes longer: with
 * nothing else known, one that was used a minute ago is sixty times as likely to be wanted in the next second as one of an hour ago. What is gained is RAM. Those
 * whose wake budget wants them in RAM come last, whatever they hold: for them a promise is broken.
 */
export interface PressedSleeper {
  readonly lastUsedAtMs: number;
  /** To be expected of a wake from disk. */
  readonly wakeMs: number;
  readonly ramMib: number;
  /** Its budget does not allow it to be stored by now. */
  readonly isPromised: boolean;
}

/** In order; the first is to go first. */
export function pressed<Sleeper extends PressedSleeper>(all: readonly Sleeper[], nowMs: number): readonly Sleeper[] {
  const harm = ({ lastUsedAtMs, wakeMs, ramMib }: Sleeper) =>
    wakeMs / Math.max(1, nowMs - lastUsedAtMs) / Math.max(1, ramMib);
  return all.toSorted((a, b) => Number(a.isPromised) - Number(b.isPromised) || harm(a) - harm(b));
}
