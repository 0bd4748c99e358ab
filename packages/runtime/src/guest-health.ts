import { Failure, withDeadline } from '@torpor/kernel';
import { setTimeout as sleep } from 'node:timers/promises';
import { tcpGuest } from './guest-tcp.ts';

const TRY_MS = 250;
const PAUSE_MS = 2;
const LOOK_EACH_MS = 500;

export interface StartingGuest {
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly deadlineMs: number;
  /** Whether the instance still lives: a guest whose PID 1 has ended will never answer. */
  isAlive(): Promise<boolean>;
}

/**
 * Waits until the guest of an instance that is just starting answers. Each try has a connection of its own: one that was begun before the instance's
 * network was up waits a second before it tries again.
 */
export async function guestAnswers(guest: StartingGuest): Promise<void> {
  let last: Failure | undefined;
  const timer = { name: `first answer of the guest at ${guest.host}`, ms: guest.deadlineMs };
  try {
    await withDeadline(timer, async (signal) => {
      for (let lookAtMs = performance.now() + LOOK_EACH_MS; ;) {
        last = await refusal(guest, signal);
        if (!last) return;
        if (performance.now() >= lookAtMs) {
          if (!(await guest.isAlive())) throw died(guest, last);
          lookAtMs = performance.now() + LOOK_EACH_MS;
        }
        await sleep(PAUSE_MS, undefined, { signal });
      }
    });
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'deadline_exceeded') || !last) throw error;
    throw new Failure(error.code, error.message, { retryable: true, details: error.details ?? {}, cause: last });
  }
}

/** Why it did not answer this time; undefined when it did. */
async function refusal({ host, port, token }: StartingGuest, signal: AbortSignal): Promise<Failure | undefined> {
  const guest = tcpGuest({ host, port }, token);
  try {
    await guest.json('GET', '/v1/health', undefined, { headMs: TRY_MS, signal });
    return undefined;
  } catch (error) {
    if (!(error instanceof Failure && error.retryable) || signal.aborted) throw error;
    return error;
  } finally {
    guest.close();
  }
}

function died({ host }: StartingGuest, cause: Failure): Failure {
  const message = `the instance at ${host} ended before its guest answered: see that the template has a /torpor/guest that knows its arguments`;
  return new Failure('internal', message, { cause });
}
