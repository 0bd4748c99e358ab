import { describe, expect, it } from 'vitest';
import { compare, isShort, isTorn, missing, type Census, type Fate, type Wake } from './compare.ts';

const SLEPT = 1_000;
const WOKE = 9_000;

const census = (more: Partial<Census> = {}): Census => ({
  atMs: SLEPT,
  generation: 3,
  published: 3,
  processes: [
    { id: 'p1', pid: 11, name: 'web' },
    { id: 'p2', pid: 12, name: '' },
  ],
  ports: [
    { port: 3000, address: '0.0.0.0', processId: 'p1' },
    { port: 4000, address: '::', processId: 'p2' },
  ],
  ...more,
});
const now = (more: Partial<Census> = {}) => census({ atMs: WOKE + 100, ...more });

function judged(found: Census, fates: Record<string, Fate> = {}, before: Census | 'uncounted' = census()) {
  const wake: Wake = {
    before: before === 'uncounted' ? undefined : before,
    now: found,
    cameAs: 3,
    generation: 3,
    file: 'right',
    restoredAtMs: WOKE,
    askedAtMs: WOKE + 90,
    answeredAtMs: WOKE + 110,
    fates: new Map(Object.entries(fates)),
  };
  const checks = compare(wake);
  const [short, torn] = [isShort(checks), isTorn(checks)];
  return { short, torn, ...Object.fromEntries(checks.map(({ what, outcome }) => [what, outcome])), checks };
}

const web = census().processes.slice(1);
const webPorts = census().ports.slice(1);
const ended = (code: number, atMs = WOKE + 50, byGuest = false): Fate => ({ kind: 'ended', atMs, code, byGuest });

describe('a wake', () => {
  it('that brought back everything passes every check', () => {
    const { short, checks } = judged(now());
    expect([short, checks.map(({ outcome }) => outcome)]).toEqual([false, ['passed', 'passed', 'passed', 'passed']]);
  });

  it.each<[string, Fate, 'failed' | 'passed']>([
    ['is gone without a trace', { kind: 'untraced' }, 'failed'],
    ['was killed', ended(137), 'failed'],
    ['crashed', ended(139), 'failed'],
    ['met an instruction that this CPU lacks', ended(132), 'failed'],
    ['ended by itself, as its timer told it', ended(0), 'passed'],
    ['failed by itself', ended(1), 'passed'],
    ['was asked to end by another program', ended(143), 'passed'],
    ['was ended by its time limit', ended(137, WOKE + 50, true), 'passed'],
    ['was killed just before the sleep', ended(137, SLEPT + 1), 'passed'],
  ])('after which a process %s', (_, fate, outcome) => {
    const found = now({ processes: web, ports: webPorts });
    const verdict = judged(found, { p1: fate });
    expect(verdict).toMatchObject({ processes: outcome, listeners: 'passed', torn: outcome === 'failed' });
    expect(missing(census(), found).map(({ id }) => id)).toEqual(['p1']);
  });

  it('after which a program runs on and listens no more lost that, and is given up for nothing older', () => {
    const verdict = judged(now({ ports: webPorts }));
    expect(verdict).toMatchObject({ processes: 'passed', listeners: 'failed', short: true, torn: false });
    expect(verdict.checks[1]?.found).toBe('1 of 2 listen; nothing listens at 0.0.0.0:3000 any more');
  });

  it('to another generation is another sandbox', () => {
    expect(judged(now({ generation: 2, published: 2 }))).toMatchObject({
      generation: 'failed',
      short: true,
      torn: true,
    });
  });

  it('with a clock that is wrong says so, and nothing is given up for it', () => {
    expect(judged(now({ atMs: SLEPT }))).toMatchObject({ clock: 'failed', short: false });
    expect(judged(now({ atMs: WOKE + 1_200 }))).toMatchObject({ clock: 'failed', short: false });
    expect(judged(now({ atMs: WOKE + 900 }))).toMatchObject({ clock: 'passed' });
  });

  it('of what nobody counted before claims nothing', () => {
    const { short, checks } = judged(now(), {}, 'uncounted');
    expect([short, checks.map(({ outcome }) => outcome)]).toEqual([
      false,
      ['not checked', 'not checked', 'passed', 'passed'],
    ]);
  });
});
