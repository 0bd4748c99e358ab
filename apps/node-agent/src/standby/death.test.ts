import { expect, it } from 'vitest';
import { howItEnded } from './death.ts';

it.each([
  [{ cause: 'memory' }, 'its process was killed for want of memory'],
  [{ cause: 'pids' }, 'it reached its limit of processes and threads, without which gVisor cannot go on'],
  [{ cause: 'exited', exitCode: 3 }, 'its first process ended by itself with exit code 3'],
  [{ cause: 'signalled', signal: 9 }, 'signal 9 ended it, which nobody of ours had sent'],
  [{ cause: 'crashed', said: 'panic: x' }, 'gVisor gave up, saying "panic: x"'],
  [{ cause: 'unknown' }, 'its process is gone'],
  [{ cause: 'a cause of a later hostd' }, 'its process is gone'],
  [undefined, 'its process is gone'],
])('%o is told as: %s', (death, reason) => {
  expect(howItEnded({ state: 'absent', ...(death ? { death } : {}) })).toBe(reason);
});

it('believes the kernel’s count where nobody saw the end', () => {
  expect(howItEnded({ state: 'absent', oomKills: 1 })).toBe('its process was killed for want of memory');
});
