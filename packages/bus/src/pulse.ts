/**
 * Whether somebody still works on a request. NATS tells when nobody serves a subject, but not when the room that took a request has died since: the
 * caller would wait for its whole deadline, which is long for a create. So a server that takes its time says every now and then that it lives, and a
 * caller that hears nothing for several such times gives up. Quick answers, nearly all, cost no message more.
 */
import type { NatsConnection } from '@nats-io/transport-node';
import { Failure, type Clock } from '@torpor/kernel';

export interface PulseTimes {
  /** How often a server at work says that it lives. */
  readonly everyMs: number;
  /** How long a caller believes in a silent one: a busy event loop must not look dead. */
  readonly silenceMs: number;
}

export const PULSE: PulseTimes = { everyMs: 1_000, silenceMs: 4_000 };

/** The caller's end: one subscription for all of its asks. */
export class PulseListener {
  readonly #prefix: string;
  readonly #times: PulseTimes;
  readonly #heard = new Map<string, () => void>();
  #serial = 0;

  constructor(connection: NatsConnection, user: string, times: PulseTimes) {
    // Random, for several processes of one room share its user.
    this.#prefix = `_INBOX.${user}.pulse.${crypto.randomUUID()}`;
    this.#times = times;
    connection.subscribe(`${this.#prefix}.*`, { callback: (_error, message) => this.#heard.get(message.subject)?.() });
  }

  /** Runs `ask` with the subject that its server shall beat on; rejects as `unavailable` when that falls silent. */
  during<T>(what: string, ask: (pulse: string) => Promise<T>): Promise<T> {
    const subject = `${this.#prefix}.${(this.#serial++).toString(36)}`;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const { silenceMs } = this.#times;
    const timer = setTimeout(() => reject(silent(what, silenceMs)), silenceMs);
    this.#heard.set(subject, () => timer.refresh());
    ask(subject).then(resolve, reject);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#heard.delete(subject);
    });
  }
}

/** The server's end: beats until the work has ended. */
export async function withPulse<T>(
  connection: Pick<NatsConnection, 'publish' | 'isClosed' | 'isDraining'>,
  clock: Clock,
  beat: { subject: string | undefined; everyMs: number },
  work: () => Promise<T>,
): Promise<T> {
  const { subject } = beat;
  // A caller may name its own inbox, never a subject that means something to anybody else.
  if (!subject?.startsWith('_INBOX.')) return work();
  const ended = new AbortController();
  void beating();
  try {
    return await work();
  } finally {
    ended.abort();
  }

  async function beating(): Promise<void> {
    for (;;) {
      await clock.after(beat.everyMs, ended.signal).catch(() => {}); // the work has ended
      // One that is being closed may refuse what is published, and nobody would hear of that error.
      if (ended.signal.aborted || connection.isDraining() || connection.isClosed()) return;
      connection.publish(subject ?? '');
    }
  }
}

function silent(what: string, ms: number): Failure {
  return new Failure(
    'unavailable',
    `nobody works on ${what} any more (timer "pulse" ended after ${ms} ms of silence); it may or may not have been done`,
    { retryable: true, retryAfterS: 1, details: { timer: 'pulse', ms } },
  );
}
