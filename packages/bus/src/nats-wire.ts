import {
  connect,
  PermissionViolationError,
  RequestError,
  type NatsConnection,
  type Subscription as NatsSubscription,
} from '@nats-io/transport-node';
import type { Call, Fact } from '@torpor/contracts';
import { systemClock, Failure, withDeadline, type Clock } from '@torpor/kernel';
import { checked, openReply, openRequest, packFailure, packReply, packRequest, subjectOf } from './envelope.ts';
import { natsHints } from './nats-hints.ts';
import { whileAwaited } from './patience.ts';
import { PAYLOAD_BYTES_MAX, requestText } from './payload.ts';
import { PULSE, PulseListener, withPulse, type PulseTimes } from './pulse.ts';
import { unserved } from './unserved.ts';
import type { AskOptions, CallContext, Hints, Subscription, Wire } from './wire.ts';

export interface NatsWireOptions {
  readonly url: string;
  readonly user: string;
  readonly password: string;
  /** Shown in the server's connection list. */
  readonly room: string;
  readonly clock?: Clock;
  readonly pulse?: PulseTimes;
  /** Told of what cannot be answered to anybody: a fact of the wrong shape, a listener that throws. */
  readonly onTrouble: (what: string, error: unknown) => void;
}

export interface OpenWire extends Wire {
  close(): Promise<void>;
  isConnected(): boolean;
}

/** The wire over a NATS server. Reconnects for ever; asks made meanwhile end by their deadlines. */
export async function natsWire(options: NatsWireOptions): Promise<OpenWire> {
  const connection = await connect({
    servers: options.url,
    user: options.user,
    pass: options.password,
    name: options.room,
    // The client prefixes its reply inboxes by this; the server lets each room listen to its own prefix only.
    inboxPrefix: `_INBOX.${options.user}`,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 200,
    waitOnFirstConnect: true,
    timeout: 10_000,
    pingInterval: 5_000,
  });
  return new NatsWire(connection, await natsHints(connection), options);
}

class NatsWire implements OpenWire {
  readonly hints: Hints;
  readonly #connection: NatsConnection;
  readonly #clock: Clock;
  readonly #trouble: NatsWireOptions['onTrouble'];
  /** While the server is away: settles when it is back. */
  #away: PromiseWithResolvers<void> | undefined;
  readonly #pulse: PulseTimes;
  readonly #pulses: PulseListener;
  /** Told whenever the server was away. */
  readonly #gaps = new Set<() => void>();

  constructor(connection: NatsConnection, hints: Hints, options: NatsWireOptions) {
    this.#connection = connection;
    this.hints = hints;
    this.#clock = options.clock ?? systemClock;
    this.#trouble = options.onTrouble;
    this.#pulse = options.pulse ?? PULSE;
    this.#pulses = new PulseListener(connection, options.user, this.#pulse);
    void this.#followStatus();
  }

  async ask<Request, Reply>(call: Call<Request, Reply>, body: Request, options: AskOptions = {}): Promise<Reply> {
    options.signal?.throwIfAborted();
    const deadlineMs = Math.min(options.deadlineMs ?? call.deadlineMs, call.deadlineMs);
    const subject = subjectOf(call, options.node);
    const untilMs = this.#clock.monotonicMs() + deadlineMs;
    // The client would keep the request and send it when the server is back, however late: it must not be carried out when nobody waits any more.
    if (this.#away) await this.#whenBack(this.#away.promise, subject, deadlineMs, options.signal);
    const request = async (pulse?: string) => {
      const leftMs = Math.max(1, Math.ceil(untilMs - this.#clock.monotonicMs()));
      const envelope = packRequest(call, body, {
        traceparent: options.traceparent,
        leftMs,
        ...(pulse ? { pulse } : {}),
      });
      const text = requestText(envelope, subject, this.#connection.info?.max_payload ?? PAYLOAD_BYTES_MAX);
      return this.#connection.request(subject, text, { timeout: leftMs }).catch((error: unknown) => {
        throw askFailure(error, subject, deadlineMs);
      });
    };
    const message = await untilAborted(options.signal, () =>
      deadlineMs > this.#pulse.silenceMs ? this.#pulses.during(subject, request) : request(),
    );
    return openReply(call, message.json());
  }

  async serve<Request, Reply>(
    call: Call<Request, Reply>,
    handler: (body: Request, context: CallContext) => Promise<Reply>,
    options: { node?: string } = {},
  ): Promise<Subscription> {
    const answer = async (message: { json(): unknown; respond(data: string): boolean }) => {
      try {
        const { envelope, body } = openRequest(call, message.json());
        const { leftMs, traceparent } = envelope;
        const beat = { subject: envelope.pulse, everyMs: this.#pulse.everyMs };
        const reply = await whileAwaited(this.#clock, leftMs, (signal) =>
          withPulse(this.#connection, this.#clock, beat, () => handler(body, { signal, traceparent })),
        );
        message.respond(JSON.stringify(packReply(call, reply)));
      } catch (error) {
        if (!(error instanceof Failure)) this.#trouble(`serving ${call.subject}`, error);
        message.respond(JSON.stringify(packFailure(error)));
      }
    };
    const subscription = this.#connection.subscribe(subjectOf(call, options.node), {
      queue: 'servers',
      callback: (error, message) => {
        if (error) return this.#trouble(`the subscription to ${call.subject}`, error);
        void answer(message);
      },
    });
    await this.#connection.flush();
    return closing(subscription);
  }

  publish<Body>(fact: Fact<Body>, body: Body): void {
    if (this.#connection.isClosed()) return;
    this.#connection.publish(fact.subject, JSON.stringify({ v: 1, body: checked(fact.body, body, fact.subject) }));
  }

  async hear<Body>(
    fact: Fact<Body>,
    listener: (body: Body) => void,
    { onGap }: { onGap?: () => void } = {},
  ): Promise<Subscription> {
    const subscription = this.#connection.subscribe(fact.subject, {
      callback: (error, message) => {
        try {
          if (error) throw error;
          listener(checked(fact.body, message.json<{ body: unknown }>().body, fact.subject));
        } catch (trouble) {
          this.#trouble(`hearing ${fact.subject}`, trouble);
        }
      },
    });
    if (onGap) this.#gaps.add(onGap);
    await this.#connection.flush();
    return {
      close: async () => {
        if (onGap) this.#gaps.delete(onGap);
        await closing(subscription).close();
      },
    };
  }

  isConnected(): boolean {
    return this.#away === undefined && !this.#connection.isClosed();
  }

  /** The client tells when the server goes away and comes back; the loop ends with the connection. */
  async #followStatus(): Promise<void> {
    for await (const { type } of this.#connection.status()) {
      if (type === 'disconnect') this.#away ??= Promise.withResolvers();
      if (type !== 'reconnect') continue;
      this.#isBack();
      for (const tell of this.#gaps) tell();
    }
    this.#isBack(); // closed: whoever waits is told so by the connection itself
  }

  #isBack(): void {
    this.#away?.resolve();
    this.#away = undefined;
  }

  #whenBack(back: Promise<void>, subject: string, ms: number, outer: AbortSignal | undefined): Promise<void> {
    return withDeadline({ name: subject, ms, clock: this.#clock, ...(outer ? { outer } : {}) }, () => back);
  }

  async close(): Promise<void> {
    // Draining waits for handlers in flight; a server that is gone cannot be drained, so it has a deadline.
    await Promise.race([this.#connection.drain(), this.#clock.after(2_000).then(() => this.#connection.close())]);
  }
}

function closing(subscription: NatsSubscription): Subscription {
  return {
    close: async () => {
      if (!subscription.isClosed()) subscription.unsubscribe();
    },
  };
}

function askFailure(error: unknown, subject: string, deadlineMs: number): Failure {
  if (error instanceof RequestError && error.isNoResponders()) return unserved(subject, error);
  if (error instanceof Error && error.cause instanceof PermissionViolationError) {
    return new Failure('forbidden', `this room may not speak on ${subject}`, { cause: error });
  }
  return new Failure(
    'deadline_exceeded',
    `${subject} did not answer; the timer "${subject}" ended after ${deadlineMs} ms`,
    {
      retryable: true,
      details: { timer: subject, ms: deadlineMs },
      cause: error,
    },
  );
}

function untilAborted<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (!signal) return work();
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    work()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', stop));
  });
}
