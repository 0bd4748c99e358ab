/**
 * Closing stretches of use (DESIGN §7): each has a key (instance, generation, sequence), so that booking it twice counts once. An instance's *open point*
 * is where its next interval begins; points and closed intervals are kept together, so that a crash at any moment counts nothing twice, and loses at most the
 * last stretch of what has ended by the time somebody looks again.
 */
import type { UsageInterval } from '@torpor/contracts';
import type { InstanceUsage } from '@torpor/runtime';

/** Of an instance; volumes are metered by whom they are kept for. */
export type Tier = Exclude<UsageInterval['tier'], 'volume'>;

export interface OpenPoint {
  readonly sequence: number;
  readonly fromMs: number;
  readonly tier: Tier;
  readonly cpuMs: number;
  readonly memoryMib: number;
  readonly egressBytes: number;
  readonly diskMib: number;
}

/** What the counters of the host say, or `undefined` when it could not be asked: then they are taken to stand where they stood. */
export type Reading = InstanceUsage | undefined;

/** A closed stretch, whoever's it is. */
export type Stretch = Omit<UsageInterval, 'workspace' | 'instanceId' | 'generation'>;

export function firstPoint(atMs: number, tier: Tier, reading: Reading): OpenPoint {
  return { sequence: 0, ...pointAt(atMs, tier, reading, undefined) };
}

/** Closes the stretch from `point` to `atMs`; the next begins there in `tier`. Counters that fell (a reboot, a new body) count from zero. */
export function closeInterval(
  point: OpenPoint,
  at: { atMs: number; tier: Tier; reading: Reading; wake?: UsageInterval['wake'] },
): { interval: Stretch; next: OpenPoint } {
  const toMs = Math.max(at.atMs, point.fromMs);
  const next = { sequence: point.sequence + 1, ...pointAt(toMs, at.tier, at.reading, point) };
  const { sequence, fromMs, tier } = point;
  const span = { sequence, fromMs, toMs, tier, diskMib: next.diskMib, ...(at.wake ? { wake: at.wake } : {}) };
  // Nothing of it ran. What the counters say by now is its restore's, and that is ours.
  if (tier === 'stored') return { interval: { ...span, cpuMs: 0, memoryMibMs: 0, egressBytes: 0 }, next };
  // Its RAM went at the end of the stretch, not little by little.
  const letGo = at.tier === 'stored' || (at.tier === 'lean' && tier !== 'lean');
  const memoryMibAfter = letGo ? point.memoryMib : next.memoryMib;
  const interval = {
    ...span,
    cpuMs: grown(point.cpuMs, next.cpuMs),
    memoryMibMs: ((point.memoryMib + memoryMibAfter) / 2) * (toMs - fromMs),
    egressBytes: grown(point.egressBytes, next.egressBytes),
  };
  return { interval, next };
}

function pointAt(
  fromMs: number,
  tier: Tier,
  reading: Reading,
  before: OpenPoint | undefined,
): Omit<OpenPoint, 'sequence'> {
  if (!reading) {
    const { cpuMs = 0, memoryMib = 0, egressBytes = 0, diskMib = 0 } = before ?? {};
    return { fromMs, tier, cpuMs, memoryMib, egressBytes, diskMib };
  }
  const { cpuUsageNs, memoryMib, txBytes, diskMib = before?.diskMib ?? 0 } = reading;
  return { fromMs, tier, cpuMs: cpuUsageNs / 1e6, memoryMib, egressBytes: txBytes, diskMib };
}

function grown(from: number, to: number): number {
  return to >= from ? to - from : to;
}
