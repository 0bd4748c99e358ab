import { Failure, withDeadline } from '@torpor/kernel';
import { setTimeout as sleep } from 'node:timers/promises';
import { tcpGuest } from './guest-tcp.ts';

/** The shortest try. Each later one is given as long as all before it: a guest that is slow to answer, under a heavy load, is heard in the end. */
const TRY_MS = 250;
const TRY_MS_MAX = 5_000;
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
      const sinceMs = performance.now();
      for (let lookAtMs = sinceMs + LOOK_EACH_MS; ;) {
        last = await refusal(guest, { headMs: tryMs(performance.now() - sinceMs), signal });
        if (!last) return;
        if (performance.now() >= lookAtMs) {
          if (!(await guest.isAlive())) throw died(guest, last);
          lookAtMs = performance.now() + LOOK_EACH_MS;
        }
        await sleep(PAUSE_MS, undefined, { signal });
      }
    });
  } catch (error) {
    throw silence(error, last);
  }
}

function tryMs(elapsedMs: number): number {
  return Math.min(Math.max(TRY_MS, elapsedMs), TRY_MS_MAX);
}

/** What is made of the end of that wait, see `isSilence`; anything else stays what it is. */
export function silence(error: unknown, last?: Failure): unknown {
  if (!(error instanceof Failure) || error.code !== 'deadline_exceeded') return error;
  const { code, message, details } = error;
  return new Failure(code, message, { retryable: true, details: { ...details, guest: 'silent' }, cause: last });
}

/** Why it did not answer this time; undefined when it did. */
async function refusal(
  { host, port, token }: StartingGuest,
  { headMs, signal }: { headMs: number; signal: AbortSignal },
): Promise<Failure | undefined> {
  const guest = tcpGuest({ host, port }, token);
  try {
    await guest.json('GET', '/v1/health', undefined, { headMs, signal });
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
