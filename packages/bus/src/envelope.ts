import { Envelope, ReplyEnvelope, type Call } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import type { z } from 'zod';

/** The pure half of a wire: bodies in and out of envelopes, shapes checked on both ends. */

export function subjectOf(call: { subject: string }, node: string | undefined): string {
  if (!call.subject.includes('{node}')) return call.subject;
  if (node === undefined) throw new Error(`the call ${call.subject} goes to one node, and none was named`);
  return call.subject.replace('{node}', node);
}

export function packRequest<Request>(
  call: Call<Request, unknown>,
  body: Request,
  more: { traceparent: string | undefined; leftMs: number; pulse?: string },
): Envelope {
  return {
    v: 1,
    body: checked(call.request, body, `the request of ${call.subject}`),
    leftMs: more.leftMs,
    ...(more.pulse === undefined ? {} : { pulse: more.pulse }),
    ...(more.traceparent === undefined ? {} : { traceparent: more.traceparent }),
  };
}

/** Opens what a caller sent. A body of the wrong shape is the caller's fault: `bad_request`. */
export function openRequest<Request>(
  call: Call<Request, unknown>,
  raw: unknown,
): { envelope: Envelope; body: Request } {
  const envelope = Envelope.safeParse(raw);
  if (!envelope.success) throw new Failure('bad_request', `${call.subject}: expected an envelope of version 1`);
  return { envelope: envelope.data, body: checked(call.request, envelope.data.body, `the request of ${call.subject}`) };
}

export function packReply<Reply>(call: Call<unknown, Reply>, body: Reply): ReplyEnvelope {
  return { v: 1, ok: true, body: checked(call.reply, body, `the reply of ${call.subject}`) };
}

/** A Failure keeps its code over the wire; anything else is a bug of the server and travels as `internal`. */
export function packFailure(error: unknown): ReplyEnvelope {
  if (!(error instanceof Failure)) {
    return { v: 1, ok: false, failure: { code: 'internal', message: explain(error), retryable: false } };
  }
  const { code, message, retryable, retryAfterS, details } = error;
  return {
    v: 1,
    ok: false,
    failure: {
      code,
      message,
      retryable,
      ...(retryAfterS === undefined ? {} : { retryAfterS }),
      ...(details === undefined ? {} : { details: { ...details } }),
    },
  };
}

export function openReply<Reply>(call: Call<unknown, Reply>, raw: unknown): Reply {
  const reply = ReplyEnvelope.parse(raw);
  if (reply.ok) return checked(call.reply, reply.body, `the reply of ${call.subject}`);
  const { code, message, ...more } = reply.failure;
  throw new Failure(code, message, {
    retryable: more.retryable,
    ...(more.retryAfterS === undefined ? {} : { retryAfterS: more.retryAfterS }),
    ...(more.details === undefined ? {} : { details: more.details }),
  });
}

export function checked<T>(shape: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`).join('; ');
  throw new Failure('bad_request', `${what} has the wrong shape: ${problems}`);
}
