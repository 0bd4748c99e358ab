import { z } from 'zod';

/**
 * A call between rooms: one subject, one request shape, one reply shape, one deadline, defined in one place.
 * Optional fields may be added; anything else is a new subject with a higher version.
 */
export interface Call<Request, Reply> {
  /** NATS subject; `{node}` is replaced by the node's id. Ends with the version: `.v1`. */
  readonly subject: string;
  readonly request: z.ZodType<Request>;
  readonly reply: z.ZodType<Reply>;
  readonly deadlineMs: number;
}

/** A fact that is published and may be heard by any number of rooms, or none. Delivery is not promised. */
export interface Fact<Body> {
  readonly subject: string;
  readonly body: z.ZodType<Body>;
}

export function defineCall<Request, Reply>(call: Call<Request, Reply>): Call<Request, Reply> {
  return call;
}

export function defineFact<Body>(fact: Fact<Body>): Fact<Body> {
  return fact;
}

/** What travels around every body on the bus. */
export const Envelope = z.object({
  v: z.literal(1),
  /** W3C trace context, so that one trace id runs through every room. */
  traceparent: z.string().optional(),
  /** How long the caller waits from here on, ms. A span, for the clocks of two hosts never agree: each side counts it down by its own. */
  leftMs: z.number().optional(),
  /** Where the server says, while it takes its time, that it still works on this. */
  pulse: z.string().optional(),
  body: z.unknown(),
});
export type Envelope = z.infer<typeof Envelope>;

export const ReplyEnvelope = z.discriminatedUnion('ok', [
  z.object({ v: z.literal(1), ok: z.literal(true), body: z.unknown() }),
  z.object({
    v: z.literal(1),
    ok: z.literal(false),
    failure: z.object({
      code: z.string(),
      message: z.string(),
      retryable: z.boolean(),
      retryAfterS: z.number().optional(),
      details: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
]);
export type ReplyEnvelope = z.infer<typeof ReplyEnvelope>;
