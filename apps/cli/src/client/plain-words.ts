/** What a person is told when something between them and a sandbox is not there: what it means for them, and the next step. */
import { Failure } from '@torpor/kernel';

/** Its message is all that a person needs. What lay behind it is shown with TORPOR_DEBUG alone. */
export class PlainFailure extends Failure {
  readonly behind: unknown;

  constructor(code: string, message: string, behind: unknown) {
    super(code, message, { retryable: true });
    this.behind = behind;
  }
}

const NOT_UP = 'the stack is not up, or is restarting; "torpor status" tells which';

/** Of what the stack itself says, the lines that are for those who know its rooms. */
const ROOMS_WORDS: readonly (readonly [RegExp, string])[] = [
  [/^no room serves /, 'a part of the stack is not up, or is restarting; "torpor status" tells which'],
  [/timer "reach node" ended/, 'the node that holds the sandbox does not answer; "torpor status" tells how it is'],
];

/** The same failure, or the one that a person understands. */
export function plainly(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof PlainFailure) return error;
  for (const [pattern, words] of ROOMS_WORDS)
    if (pattern.test(error.message)) return new PlainFailure('unavailable', words, error);
  if (chainOf(error).some(isUnreached)) return new PlainFailure('unavailable', NOT_UP, error);
  if (chainOf(error).some(isBroken))
    return new PlainFailure('unavailable', `the connection to the stack broke; "torpor status" tells how it is`, error);
  return error;
}

/** The connection was there, and went away while it was needed. */
export function isConnectionBroken(error: unknown): boolean {
  return chainOf(error).some(isBroken) && !chainOf(error).some(isUnreached);
}

/** The way to the sandbox broke, and this is what became of it; `state` undefined when nobody can say. */
export function brokenWith(
  sandbox: string,
  state: { readonly state: string; readonly reason?: string | undefined } | undefined,
  behind: unknown,
): PlainFailure {
  const now = state ? `it is ${state.state}${state.reason === undefined ? '' : `: ${state.reason}`}` : NOT_UP;
  const next = `"torpor sandbox get ${sandbox}" says what became of it`;
  return new PlainFailure('unavailable', `the connection to the sandbox "${sandbox}" broke; ${now}\n${next}`, behind);
}

/** The stream ended before what it told of did. */
export class StreamCut extends Error {}

function chainOf(error: unknown): readonly Error[] {
  const chain: Error[] = [];
  for (let at = error; at instanceof Error && chain.length < 8; at = at instanceof PlainFailure ? at.behind : at.cause)
    chain.push(at);
  return chain;
}

const UNREACHED = ['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'];
const BROKEN = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', 'UND_ERR_ABORTED', 'ERR_STREAM_PREMATURE_CLOSE'];

function isUnreached(error: Error): boolean {
  return UNREACHED.includes(codeOf(error));
}

function isBroken(error: Error): boolean {
  return error instanceof StreamCut || BROKEN.includes(codeOf(error));
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}
