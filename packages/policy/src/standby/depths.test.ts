import type { WakeBudget } from '@torpor/contracts';
import { array, assert, constant, double, float, integer, oneof, pre, property, record, tuple } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allowance, judgeSteps, P99_SHARE, planSleep, type Depth, type Outlook } from './depths.ts';
import { DEFAULT_PRICES } from './price.ts';
import { SLEEP_EDGES_MS, withSleep, type Sleeps } from './sleeps.ts';
import { wakeTimeOf } from './wake-time.ts';

const MIB = 2 ** 20;

function depth(tier: string, ramMib: number, diskMib: number, wakeMs: number, enterMs = 0): Depth {
  const wake = wakeTimeOf([], { medianMs: wakeMs, spread: 0.3 });
  return { tier, ramBytes: ramMib * MIB, diskBytes: diskMib * MIB, enterMs, wake };
}

const PAUSED = depth('paused', 350, 0, 3);
const LEAN = depth('lean', 30, 0, 9, 400);
const STORED = depth('stored', 0, 350, 250, 900);

function outlook(sleeps: Sleeps, ...depths: [Depth, ...Depth[]]): Outlook {
  return { depths, sleeps, prices: DEFAULT_PRICES };
}

function slept(count: number, ms: number, sleeps: Sleeps = []): Sleeps {
  return Array.from({ length: count }, () => ms).reduce<Sleeps>(withSleep, sleeps);
}

describe('how deep it sleeps', () => {
  it('stays in RAM under a budget that no wake from disk keeps', () => {
    const plan = planSleep(outlook(slept(200, 60_000), PAUSED, STORED), { kind: 'p99', ms: 25 });
    expect(plan.steps.filter(({ afterMs }) => afterMs <= 60_000)).toEqual([]);
    expect(plan.isKept).toBe(true);
  });

  it('stores what comes back after so long so seldom that the budget bears it', () => {
    const plan = planSleep(outlook(slept(250, 5_000), PAUSED, STORED), { kind: 'p99', ms: 25 });
    expect(plan.steps).toEqual([{ tier: 'stored', afterMs: expect.any(Number) }]);
    expect(plan.steps[0]?.afterMs).toBeGreaterThan(5_000);
    expect(plan.overShare).toBeLessThanOrEqual(P99_SHARE);
  });

  it('not for days while too few sleeps are known', () => {
    const plan = planSleep(outlook(slept(20, 5_000), PAUSED, STORED), { kind: 'p99', ms: 25 });
    expect(plan.steps[0]?.afterMs ?? Infinity).toBeGreaterThan(86_400_000);
  });

  it('goes lean where the budget allows that and not more', () => {
    const plan = planSleep(outlook(slept(200, 3_600_000), PAUSED, LEAN, STORED), { kind: 'p99', ms: 50 });
    expect(plan.steps[0]).toEqual({ tier: 'lean', afterMs: expect.any(Number) });
    expect(plan.steps.find(({ tier }) => tier === 'stored')?.afterMs ?? Infinity).toBeGreaterThan(3_600_000);
  });

  it('at the cheapest, stores at once what sleeps for hours, and not what comes back within seconds', () => {
    const cheapest = { kind: 'cheapest' } as const;
    expect(planSleep(outlook(slept(50, 7_200_000), PAUSED, STORED), cheapest).steps[0]?.afterMs).toBeLessThan(60_000);
    expect(planSleep(outlook(slept(50, 4_000), PAUSED, STORED), cheapest).steps[0]?.afterMs).toBeGreaterThan(4_000);
  });

  it('begins no store where the chance to be waited for breaks the budget, though its wake would not', () => {
    const slow = depth('stored', 0, 350, 30, 5_000);
    const quick = depth('stored', 0, 350, 30, 10);
    const often = slept(300, 2_500);
    const begins = (stored: Depth) =>
      planSleep(outlook(often, PAUSED, stored), { kind: 'p99', ms: 100 }).steps[0]?.afterMs ?? Infinity;
    expect(begins(slow)).toBeGreaterThan(2_500);
    expect(
      judgeSteps(outlook(often, PAUSED, slow), [{ tier: 'stored', afterMs: 0 }], { kind: 'p99', ms: 100 }).overShare,
    ).toBeGreaterThan(0.5);
    expect(
      judgeSteps(outlook(often, PAUSED, quick), [{ tier: 'stored', afterMs: 0 }], { kind: 'p99', ms: 100 }).overShare,
    ).toBeLessThan(0.01);
  });

  it('says so where even the shallowest sleep does not keep it', () => {
    const plan = planSleep(outlook([], PAUSED, STORED), { kind: 'p99', ms: 1 });
    expect(plan).toMatchObject({ steps: [], isKept: false });
  });

  it('skips a depth that only costs', () => {
    const useless = depth('lean', 340, 0, 200, 5_000);
    const plan = planSleep(outlook(slept(50, 7_200_000), PAUSED, useless, STORED), { kind: 'cheapest' });
    expect(plan.steps.map(({ tier }) => tier)).toEqual(['stored']);
  });
});

it.each([
  [{ wakes: 0, over: 0 }, true],
  [{ wakes: 20, over: 1 }, false],
  [{ wakes: 150, over: 1 }, false],
  [{ wakes: 250, over: 1.4 }, true],
])('after %j it may be risked to be slow once: %s', (seen, may) => {
  expect(allowance(seen) === P99_SHARE).toBe(may);
});

describe('any plan', () => {
  const anySleeps = array(oneof(integer({ min: 0, max: 60_000 }), integer({ min: 0, max: 1e9 })), {
    maxLength: 150,
  }).map((all) => all.reduce<Sleeps>(withSleep, []));
  const anyDeeper = record({
    ramShare: float({ min: 0, max: 1, noNaN: true }),
    diskMib: integer({ min: 0, max: 1_000 }),
    slower: float({ min: 1, max: 50, noNaN: true }),
    enterMs: integer({ min: 0, max: 5_000 }),
  });
  /** The shallowest first: less RAM and slower wakes the deeper. */
  const anyOutlook = tuple(anySleeps, array(anyDeeper, { minLength: 1, maxLength: 2 })).map(([sleeps, deeper]) => {
    const depths: [Depth, ...Depth[]] = [depth('0', 400, 0, 3)];
    let [ramMib, wakeMs] = [400, 3];
    for (const [at, { ramShare, diskMib, slower, enterMs }] of deeper.entries()) {
      ramMib *= ramShare;
      wakeMs *= slower;
      depths.push(depth(String(at + 1), ramMib, diskMib, wakeMs, enterMs));
    }
    return outlook(sleeps, ...depths);
  });
  const anyMs = double({ min: 0.5, max: 3_000, noNaN: true });
  const anyBudget = oneof(
    constant<WakeBudget>({ kind: 'cheapest' }),
    anyMs.map((ms): WakeBudget => ({ kind: 'p99', ms })),
  );
  const anyEdge = integer({ min: 0, max: SLEEP_EDGES_MS.length - 1 }).map((at) => SLEEP_EDGES_MS[at] ?? 0);

  it('keeps the budget, or stays as shallow as it can and says that it does not', () => {
    assert(
      property(anyOutlook, anyBudget, double({ min: 0, max: P99_SHARE, noNaN: true }), (at, budget, allowed) => {
        const plan = planSleep(at, budget, allowed);
        expect(plan.isKept).toBe(plan.overShare <= allowed);
        expect(plan.isKept || plan.steps.length === 0).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('costs no more than any other that keeps it', () => {
    assert(
      property(anyOutlook, anyBudget, anyEdge, anyEdge, (at, budget, one, other) => {
        const plan = planSleep(at, budget);
        const [early, late] = [Math.min(one, other), Math.max(one, other)];
        const steps = at.depths.slice(1).map(({ tier }, index) => ({ tier, afterMs: index === 0 ? early : late }));
        const rival = judgeSteps(at, steps, budget);
        pre(plan.isKept && rival.overShare <= P99_SHARE);
        expect(plan.cost).toBeLessThanOrEqual(rival.cost);
      }),
      { numRuns: 150 },
    );
  });

  it('costs no more under a wider budget', () => {
    assert(
      property(anyOutlook, anyMs, anyMs, (at, one, other) => {
        const tight = planSleep(at, { kind: 'p99', ms: Math.min(one, other) });
        const wide = planSleep(at, { kind: 'p99', ms: Math.max(one, other) });
        pre(tight.isKept);
        expect(wide.isKept).toBe(true);
        expect(wide.cost).toBeLessThanOrEqual(tight.cost);
        expect(planSleep(at, { kind: 'cheapest' }).cost).toBeLessThanOrEqual(wide.cost);
      }),
      { numRuns: 150 },
    );
  });

  it('is judged as it was planned', () => {
    assert(
      property(anyOutlook, anyBudget, (at, budget) => {
        const { steps, cost, overShare } = planSleep(at, budget);
        expect(judgeSteps(at, steps, budget)).toEqual({ cost, overShare });
      }),
      { numRuns: 100 },
    );
  });
});
