import { Failure, withDeadline } from '@torpor/kernel';
import { setTimeout as sleep } from 'node:timers/promises';
import { http2Guest } from './guest-http2.ts';

const TRY_MS = 250;
const PAUSE_MS = 2;

/**
 * Waits until the guest of an instance that is just starting answers. Each try has a connection of its own: one that was begun before the instance's
 * network was up waits a second before it tries again.
 */
export async function guestAnswers(
  address: { host: string; port: number },
  token: string,
  deadlineMs: number,
): Promise<void> {
  let last: unknown;
  try {
    await withDeadline({ name: `first answer of the guest at ${address.host}`, ms: deadlineMs }, async (signal) => {
      while (!(await answers(signal))) await sleep(PAUSE_MS, undefined, { signal });
    });
  } catch (error) {
    if (error instanceof Failure && error.code === 'deadline_exceeded' && last !== undefined) {
      throw new Failure(error.code, error.message, { retryable: true, details: error.details ?? {}, cause: last });
    }
    throw error;
  }

  async function answers(signal: AbortSignal): Promise<boolean> {
    const guest = http2Guest(address, token);
    try {
      await guest.json('GET', '/v1/health', undefined, { headMs: TRY_MS, signal });
      return true;
    } catch (error) {
      if (!(error instanceof Failure && error.retryable) || signal.aborted) throw error;
      last = error;
      return false;
    } finally {
      guest.close();
    }
  }
}
