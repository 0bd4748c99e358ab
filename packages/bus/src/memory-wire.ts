import type { Call, Fact } from '@torpor/contracts';
import { systemClock, withDeadline, type Clock } from '@torpor/kernel';
import { checked, openReply, openRequest, packFailure, packReply, packRequest, subjectOf } from './envelope.ts';
import { whileAwaited } from './patience.ts';
import { unserved } from './unserved.ts';
import type { AskOptions, CallContext, Hints, Subscription, Wire } from './wire.ts';

/** What may befall one message on the way; `deliver` several times, late, or never. Pure chance of the given fates. */
export interface Fate {
  /** One entry for each time the message arrives: the delay in ms. Empty: lost. */
  readonly arrivals: readonly number[];
}

export type Fates = (message: { subject: string; kind: 'request' | 'reply' | 'fact'; from: string }) => Fate;

type Handler = (raw: unknown) => Promise<unknown>;

/**
 * A wire within one process, for tests and the simulator: the same envelopes and shape checks as NATS, with a seeded fate for every message.
 * `as(room)` gives a room its own end, which `sever` cuts off, as a killed process would be.
 */
export class MemoryBus {
  readonly #handlers = new Map<string, { room: string; handler: Handler }[]>();
  readonly #listeners = new Map<string, Set<{ room: string; hear: (raw: unknown) => void }>>();
  readonly #hints = new Map<string, string>();
  readonly #severed = new Set<string>();
  readonly #clock: Clock;
  readonly #fates: Fates;
  #turn = 0;

  constructor(options: { clock?: Clock; fates?: Fates } = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#fates = options.fates ?? (() => ({ arrivals: [0] }));
  }

  /** Everything the room served or heard is gone, and nothing reaches or leaves it until `mend`. */
  sever(room: string): void {
    this.#severed.add(room);
    for (const [subject, servers] of this.#handlers) {
      this.#handlers.set(
        subject,
        servers.filter((server) => server.room !== room),
      );
    }
    for (const listeners of this.#listeners.values()) {
      for (const listener of listeners) if (listener.room === room) listeners.delete(listener);
    }
  }

  mend(room: string): void {
    this.#severed.delete(room);
  }

  as(room: string): Wire {
    return {
      ask: (call, body, options) => this.#ask(room, call, body, options),
      serve: (call, handler, options) => this.#serve(room, call, handler, options),
      publish: (fact, body) => this.#publish(room, fact, body),
      hear: (fact, listener) => this.#hear(room, fact, listener),
      hints: this.#hintsOf(room),
    };
  }

  async #ask<Request, Reply>(
    room: string,
    call: Call<Request, Reply>,
    body: Request,
    options: AskOptions = {},
  ): Promise<Reply> {
    const subject = subjectOf(call, options.node);
    const deadlineMs = Math.min(options.deadlineMs ?? call.deadlineMs, call.deadlineMs);
    const envelope = packRequest(call, body, { traceparent: options.traceparent, leftMs: deadlineMs });
    const timer = {
      name: subject,
      ms: deadlineMs,
      clock: this.#clock,
      ...(options.signal ? { outer: options.signal } : {}),
    };
    const raw = await withDeadline(timer, () => this.#carry(room, subject, structuredClone(envelope)));
    return openReply(call, raw);
  }

  /** Resolves with the first reply that finds its way back; never, if none does. */
  #carry(room: string, subject: string, envelope: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const servers = this.#handlers.get(subject) ?? [];
      if (servers.length === 0 && !this.#severed.has(room)) {
        return reject(unserved(subject));
      }
      const { arrivals } = this.#fates({ subject, kind: 'request', from: room });
      for (const delayMs of arrivals) {
        void this.#later(delayMs, async () => {
          const server = this.#pick(subject);
          if (!server || this.#severed.has(room)) return;
          const reply = structuredClone(await server.handler(envelope));
          const back = this.#fates({ subject, kind: 'reply', from: server.room });
          if (this.#severed.has(server.room) || this.#severed.has(room)) return;
          for (const ms of back.arrivals) void this.#later(ms, async () => resolve(reply));
        });
      }
    });
  }

  #pick(subject: string): { room: string; handler: Handler } | undefined {
    const servers = this.#handlers.get(subject) ?? [];
    return servers[this.#turn++ % Math.max(1, servers.length)];
  }

  async #serve<Request, Reply>(
    room: string,
    call: Call<Request, Reply>,
    handler: (body: Request, context: CallContext) => Promise<Reply>,
    options: { node?: string } = {},
  ): Promise<Subscription> {
    const subject = subjectOf(call, options.node);
    const entry = {
      room,
      handler: async (raw: unknown) => {
        try {
          const { envelope, body } = openRequest(call, raw);
          const { leftMs, traceparent } = envelope;
          const work = (signal: AbortSignal) => handler(body, { signal, traceparent });
          return packReply(call, await whileAwaited(this.#clock, leftMs, work));
        } catch (error) {
          return packFailure(error);
        }
      },
    };
    this.#handlers.set(subject, [...(this.#handlers.get(subject) ?? []), entry]);
    return {
      close: async () => {
        this.#handlers.set(
          subject,
          (this.#handlers.get(subject) ?? []).filter((server) => server !== entry),
        );
      },
    };
  }

  #publish<Body>(room: string, fact: Fact<Body>, body: Body): void {
    if (this.#severed.has(room)) return;
    const raw = structuredClone(checked(fact.body, body, fact.subject));
    for (const delayMs of this.#fates({ subject: fact.subject, kind: 'fact', from: room }).arrivals) {
      void this.#later(delayMs, async () => {
        for (const listener of this.#listeners.get(fact.subject) ?? []) listener.hear(raw);
      });
    }
  }

  async #hear<Body>(room: string, fact: Fact<Body>, listener: (body: Body) => void): Promise<Subscription> {
    const entry = { room, hear: (raw: unknown) => listener(checked(fact.body, raw, fact.subject)) };
    const listeners = this.#listeners.get(fact.subject) ?? new Set();
    this.#listeners.set(fact.subject, listeners.add(entry));
    return {
      close: async () => {
        listeners.delete(entry);
      },
    };
  }

  #hintsOf(room: string): Hints {
    const reachable = () => !this.#severed.has(room);
    return {
      get: async (key) => (reachable() ? this.#hints.get(key) : undefined),
      put: async (key, value) => {
        if (reachable()) this.#hints.set(key, value);
      },
      drop: async (key) => {
        if (reachable()) this.#hints.delete(key);
      },
    };
  }

  async #later(ms: number, work: () => Promise<void>): Promise<void> {
    if (ms > 0) await this.#clock.after(ms);
    else await Promise.resolve();
    await work();
  }
}

/** One room's end of a bus of its own. */
export function memoryWire(): Wire {
  return new MemoryBus().as('only');
}
