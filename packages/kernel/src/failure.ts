import { inspect } from 'node:util';

/**
 * A failure somebody may meet. Its code is listed in `contracts`; the message says what happened, what was expected and what to do.
 * Anything thrown that is not a Failure is a bug: it ends the request, not the room.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: string;
  /** Whether the same request may succeed when asked again. */
  readonly retryable: boolean;
  /** Seconds after which asking again makes sense. */
  readonly retryAfterS: number | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: string,
    message: string,
    more: { retryable?: boolean; retryAfterS?: number; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.retryable = more.retryable ?? false;
    this.retryAfterS = more.retryAfterS;
    this.details = more.details;
  }
}

/** Says what went wrong in one line, with the causes behind it. */
export function explain(error: unknown): string {
  const lines: string[] = [];
  let at = error;
  for (let depth = 0; depth < 6 && at !== undefined && at !== null; depth += 1) {
    const line = at instanceof Error ? at.message || at.name : plainly(at);
    if (line !== lines.at(-1)) lines.push(line); // a wrapper often repeats what it wraps
    at = at instanceof Error ? at.cause : undefined;
  }
  return lines.join(': ');
}

/** Some libraries throw the body of an answer as it is. */
function plainly(thrown: unknown): string {
  return typeof thrown === 'object' ? inspect(thrown, { compact: true, breakLength: Infinity }) : String(thrown);
}
