import { systemClock } from '@torpor/kernel';
import { expect, it, vi } from 'vitest';
import { withPulse } from './pulse.ts';

it('beats while the work goes on, and no more once its connection is being closed', async () => {
  const bells: (() => void)[] = [];
  const clock = { ...systemClock, after: () => new Promise<void>((ring) => void bells.push(ring)) };
  const work = Promise.withResolvers<string>();
  let isDraining = false;
  const publish = vi.fn<() => void>(() => {
    if (isDraining) throw new Error('connection draining');
  });
  const connection = { publish, isClosed: () => false, isDraining: () => isDraining };
  const answer = withPulse(connection, clock, { subject: '_INBOX.a.pulse.b.1', everyMs: 50 }, () => work.promise);
  bells[0]?.();
  await expect.poll(() => bells.length).toBe(2);
  expect(publish).toHaveBeenCalledTimes(1);
  isDraining = true;
  bells[1]?.();
  await new Promise(setImmediate); // the bell has been heard
  expect(publish).toHaveBeenCalledTimes(1);
  work.resolve('done');
  expect(await answer).toBe('done');
});
