/** What of the guest's protocol this dialect uses, with its shapes. */
import type { Readable } from 'node:stream';
import { Failure } from '@torpor/kernel';
import { guestFailure, type Guest, type GuestAnswer, type GuestRequest } from '@torpor/runtime';
import { z } from 'zod';
import { readText } from './bodies.ts';

export const GuestProcess = z.object({
  id: z.string(),
  pid: z.number(),
  name: z.string(),
  command: z.string(),
  cwd: z.string(),
  status: z.enum(['running', 'exited']),
  exitCode: z.number().nullish(),
  signal: z.string().nullish(),
  startedAt: z.string(),
  exitedAt: z.string().nullish(),
  stdoutBytes: z.number(),
  stderrBytes: z.number(),
  keepAlive: z.boolean(),
  stdin: z.boolean(),
  restarts: z.number(),
  endReason: z.string().optional(),
});
export type GuestProcess = z.infer<typeof GuestProcess>;

/** A process with its output so far inline. */
export const GuestRun = GuestProcess.extend({
  stdout: z.string(),
  stderr: z.string(),
  logs: z.string(),
  /** Some of the output was too much to be inline. */
  truncated: z.boolean(),
});
export type GuestRun = z.infer<typeof GuestRun>;

export const GuestFile = z.object({
  path: z.string(),
  name: z.string(),
  type: z.enum(['file', 'directory', 'symlink', 'other']),
  size: z.number(),
  mode: z.string(),
  owner: z.string(),
  group: z.string(),
  modifiedAt: z.string(),
});
export type GuestFile = z.infer<typeof GuestFile>;

/** One line of `output?format=frames`. */
export const GuestFrame = z.union([
  z.object({ stream: z.enum(['stdout', 'stderr']), data: z.string() }),
  z.object({ exit: z.object({ code: z.number().nullish(), signal: z.string().nullish() }) }),
  z.object({ keepalive: z.literal(true) }),
  z.object({ dropped: z.object({ stream: z.enum(['stdout', 'stderr']), from: z.number(), to: z.number() }) }),
]);
export type GuestFrame = z.infer<typeof GuestFrame>;

/** A JSON call whose answer is checked. */
export async function ask<T>(
  guest: Guest,
  shape: z.ZodType<T>,
  method: string,
  path: string,
  body?: unknown,
  options: { headMs?: number; signal?: AbortSignal } = {},
): Promise<T> {
  return checked(shape, await guest.json(method, path, body, options), `${method} ${path}`);
}

export function checked<T>(shape: z.ZodType<T>, value: unknown, call: string): T {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new Failure('bad_gateway', `the guest answered "${call.split('?')[0]}" in a shape that we do not know`, {
    cause: parsed.error,
  });
}

/** A call whose answer streams. Refusals of the guest reject as they do from `guest.json`. */
export async function openStream(guest: Guest, request: GuestRequest): Promise<GuestAnswer> {
  const answer = await guest.send(request);
  if (answer.status < 400) return answer;
  const said = await readText(answer.body, 64 * 1024, 'the refusal of the guest');
  throw guestFailure(`${request.method} ${request.path.split('?')[0]}`, answer.status, said);
}

/** Reads what a Readable still holds and forgets it, so that its stream can end. */
export function discard(body: Readable): void {
  body.on('error', () => {}); // nobody waits for it any more
  body.destroy();
}
