import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  explain,
  Failure,
  KeyedQueue,
  Lifetime,
  randomWord,
  seededChance,
  systemClock,
  Turns,
  withDeadline,
} from './index.ts';

describe('withDeadline', () => {
  it('names the timer and its value, and aborts the work', async () => {
    let aborted: unknown;
    const work = (signal: AbortSignal) =>
      new Promise<never>(() => {
        signal.addEventListener('abort', () => {
          aborted = signal.reason;
        });
      });
    await expect(withDeadline({ name: 'wake', ms: 5 }, work)).rejects.toMatchObject({
      code: 'deadline_exceeded',
      message: 'the timer "wake" ended after 5 ms',
      retryable: true,
    });
    expect(aborted).toBeInstanceOf(Failure);
  });

  it('gives the result, and the error, of work that ends in time', async () => {
    expect(await withDeadline({ name: 'x', ms: 1_000 }, async () => 7)).toBe(7);
    await expect(withDeadline({ name: 'x', ms: 1_000 }, async () => Promise.reject(new Error('own')))).rejects.toThrow(
      'own',
    );
  });

  it('ends with the reason of the outer signal, already given or given later', async () => {
    const never = () => new Promise<never>(() => {});
    await expect(
      withDeadline({ name: 'x', ms: 1_000, outer: AbortSignal.abort(new Error('gone')) }, never),
    ).rejects.toThrow('gone');
    const outer = new AbortController();
    const waiting = withDeadline({ name: 'x', ms: 1_000, outer: outer.signal }, never);
    outer.abort(new Error('left'));
    await expect(waiting).rejects.toThrow('left');
  });
});

describe('Lifetime', () => {
  it('closes in reverse, once, and lets no failure keep the others open', async () => {
    const closed: string[] = [];
    const lifetime = new Lifetime();
    for (const name of ['a', 'b', 'c']) {
      lifetime.own(name, () => {
        closed.push(name);
        if (name === 'b') throw new Error('stuck');
      });
    }
    const first = lifetime.close();
    expect(lifetime.signal.aborted).toBe(true);
    await expect(first).rejects.toThrow('some things would not close');
    await expect(lifetime.close()).rejects.toThrow('some things would not close');
    expect(closed).toEqual(['c', 'b', 'a']);
  });
});

describe('KeyedQueue', () => {
  it('runs one key in order although a task fails, and forgets it', async () => {
    const queue = new KeyedQueue<string>();
    const ran: number[] = [];
    const tasks = [1, 2, 3].map((n) =>
      queue.run('k', async () => {
        await Promise.resolve();
        ran.push(n);
        if (n === 2) throw new Error('two');
        return n;
      }),
    );
    expect(queue.isBusy('k')).toBe(true);
    expect((await Promise.allSettled(tasks)).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(ran).toEqual([1, 2, 3]);
    await Promise.resolve();
    expect(queue.isBusy('k')).toBe(false);
  });

  it('lets different keys run side by side', async () => {
    const queue = new KeyedQueue<string>();
    let open: () => void = () => {};
    const blocked = queue.run('a', () => new Promise<void>((resolve) => (open = resolve)));
    expect(await queue.run('b', async () => 'b')).toBe('b');
    open();
    await blocked;
  });
});

describe('chance', () => {
  it('tells the same story for the same seed', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const [one, two] = [seededChance(seed), seededChance(seed)];
        expect(randomWord(one, 12)).toBe(randomWord(two, 12));
        expect(one.fraction()).toBe(two.fraction());
      }),
    );
    expect(randomWord(seededChance(1), 16)).toMatch(/^[a-km-np-z2-9]{16}$/);
  });
});

it('explains an error by its causes, without end', () => {
  const error = new Error('opening', { cause: new Error('reading', { cause: 'no disk' }) });
  expect(explain(error)).toBe('opening: reading: no disk');
  expect(explain(new Error('no disk', { cause: 'no disk' }))).toBe('no disk');
  expect(explain({ code: 503, error: 'full' })).toBe("{ code: 503, error: 'full' }");
  const round: Error & { cause?: unknown } = new Error('round');
  round.cause = round;
  expect(explain(round).length).toBeLessThan(100);
});

it('the clock waits until it is told to stop', async () => {
  const stop = new AbortController();
  const waiting = systemClock.after(60_000, stop.signal);
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  await systemClock.after(1);
});

describe('Turns', () => {
  it('lets a task pass its turn on before it ends, once', async () => {
    const turns = new Turns(1);
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const begun: number[] = [];
    const first = turns.run(async (passOn) => {
      passOn();
      passOn();
      await gates[0]?.promise;
    });
    const second = turns.run(async () => {
      begun.push(2);
      await gates[1]?.promise;
    });
    const third = turns.run(async () => void begun.push(3));
    gates[0]?.resolve();
    await first;
    expect(begun).toEqual([2]);
    gates[1]?.resolve();
    await Promise.all([second, third]);
    expect(begun).toEqual([2, 3]);
  });

  it('runs so many at once and lets the others come in order, also after one that fails', async () => {
    const turns = new Turns(2);
    const begun: number[] = [];
    const ends = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
    const all = ends.map(({ promise }, n) =>
      turns.run(async () => {
        begun.push(n);
        await promise;
      }),
    );
    expect(begun).toEqual([0, 1]);
    ends[1]?.reject(new Error('failed'));
    await expect(all[1]).rejects.toThrow('failed');
    await Promise.resolve();
    expect(begun).toEqual([0, 1, 2]);
    for (const { resolve } of ends) resolve();
    await Promise.allSettled(all);
    expect(begun).toEqual([0, 1, 2, 3]);
  });

  it('gives no turn to whoever waits no more, and theirs to the next', async () => {
    const turns = new Turns(1);
    const first = Promise.withResolvers<void>();
    const begun: string[] = [];
    const running = turns.run(() => first.promise);
    const gone = new AbortController();
    const left = turns.run(async () => void begun.push('left'), gone.signal);
    const stayed = turns.run(async () => void begun.push('stayed'), new AbortController().signal);
    gone.abort(new Error('nobody waits'));
    await expect(left).rejects.toThrow('nobody waits');
    await expect(turns.run(async () => void begun.push('late'), gone.signal)).rejects.toThrow('nobody waits');
    first.resolve();
    await Promise.all([running, stayed]);
    await turns.run(async () => void begun.push('another'));
    expect(begun).toEqual(['stayed', 'another']);
  });
});
