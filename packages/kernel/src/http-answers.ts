/**
 * Reads one HTTP/1.1 answer after another from the bytes of a connection, and hands bodies on as slices of what came, without copying. It is strict and
 * takes nothing doubtful for an answer: a node frames by Node's own server and a guest by Go's, and whatever else answers is not to be trusted.
 */

export interface AnswerHead {
  readonly status: number;
  /** Names in lower case; a name that came several times has all its values. */
  readonly headers: Readonly<Record<string, string | string[]>>;
}

export interface AnswerListener {
  onHead(head: AnswerHead): void;
  onData(chunk: Buffer): void;
  /** `reusable`: the connection may carry another request. */
  onEnd(reusable: boolean): void;
}

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'head' }
  | { readonly kind: 'length'; left: number }
  | { readonly kind: 'chunk size' }
  | { readonly kind: 'chunk'; left: number }
  | { readonly kind: 'chunk end' }
  | { readonly kind: 'trailers' }
  | { readonly kind: 'until close' };

const HEAD_BYTES_MAX = 128 * 1024;
const LINE_BYTES_MAX = 16 * 1024;
const HEAD_END = Buffer.from('\r\n\r\n');
const LINE_END = Buffer.from('\r\n');

export class AnswerParser {
  readonly #listener: AnswerListener;
  #state: State = { kind: 'idle' };
  #left: Buffer | undefined;
  #isHead = false;
  #keepAlive = true;

  constructor(listener: AnswerListener) {
    this.#listener = listener;
  }

  /** A request was sent; its answer comes next. */
  expect(method: string): void {
    if (this.#state.kind !== 'idle') throw new Error('an answer is still being read');
    this.#state = { kind: 'head' };
    this.#isHead = method === 'HEAD';
  }

  /** Throws when the bytes are no answer, or come unasked. */
  take(bytes: Buffer): void {
    let rest: Buffer | undefined = this.#left ? Buffer.concat([this.#left, bytes]) : bytes;
    this.#left = undefined;
    while (rest !== undefined && rest.length > 0) {
      const before: Buffer = rest;
      rest = this.#step(before);
      if (rest === before) {
        if (rest.length > HEAD_BYTES_MAX) throw new Error('the head of an answer is too large');
        this.#left = rest;
        return;
      }
    }
  }

  /** The connection ended. True when that was the end of the answer. */
  close(): boolean {
    if (this.#state.kind !== 'until close') return false;
    this.#state = { kind: 'idle' };
    this.#listener.onEnd(false);
    return true;
  }

  /** What is left after one step; the same bytes when more are needed. */
  #step(bytes: Buffer): Buffer | undefined {
    switch (this.#state.kind) {
      case 'idle':
        throw new Error('bytes came that nobody asked for');
      case 'head':
        return this.#head(bytes);
      case 'until close':
        this.#listener.onData(bytes);
        return undefined;
      case 'length':
      case 'chunk':
        return this.#data(bytes, this.#state);
      case 'chunk size':
        return this.#line(bytes, (line) => {
          const size = /^([0-9a-fA-F]{1,8})(?:;.*)?$/.exec(line)?.[1];
          if (size === undefined) throw new Error('a chunk has no size');
          const left = Number.parseInt(size, 16);
          this.#state = left === 0 ? { kind: 'trailers' } : { kind: 'chunk', left };
        });
      case 'chunk end':
        return this.#line(bytes, (line) => {
          if (line !== '') throw new Error('a chunk is longer than its size');
          this.#state = { kind: 'chunk size' };
        });
      case 'trailers':
        return this.#line(bytes, (line) => {
          if (line === '') this.#end();
        });
    }
  }

  #data(bytes: Buffer, state: { readonly kind: 'length' | 'chunk'; left: number }): Buffer | undefined {
    const taken = bytes.length <= state.left ? bytes : bytes.subarray(0, state.left);
    state.left -= taken.length;
    this.#listener.onData(taken);
    if (state.left === 0) {
      if (state.kind === 'length') this.#end();
      else this.#state = { kind: 'chunk end' };
    }
    return taken === bytes ? undefined : bytes.subarray(taken.length);
  }

  #line(bytes: Buffer, read: (line: string) => void): Buffer {
    const at = bytes.indexOf(LINE_END);
    if (at > LINE_BYTES_MAX || (at < 0 && bytes.length > LINE_BYTES_MAX)) throw new Error('a line is too long');
    if (at < 0) return bytes;
    read(bytes.toString('latin1', 0, at));
    return bytes.subarray(at + LINE_END.length);
  }

  #head(bytes: Buffer): Buffer {
    const at = bytes.indexOf(HEAD_END);
    if (at < 0) return bytes;
    const head = parseHead(bytes.toString('latin1', 0, at));
    const rest = bytes.subarray(at + HEAD_END.length);
    if (head.status < 200) return rest;
    this.#keepAlive = !/\bclose\b/i.test(String(head.headers['connection'] ?? ''));
    this.#listener.onHead(head);
    this.#state = this.#bodyOf(head);
    if (this.#state.kind === 'length' && this.#state.left === 0) this.#end();
    return rest;
  }

  #bodyOf({ status, headers }: AnswerHead): State {
    const coding = headers['transfer-encoding'];
    const length = headers['content-length'];
    if (this.#isHead || status === 204 || status === 304) return { kind: 'length', left: 0 };
    if (coding !== undefined) {
      if (length !== undefined || String(coding).toLowerCase() !== 'chunked') throw new Error('a body is framed twice');
      return { kind: 'chunk size' };
    }
    if (length === undefined) return { kind: 'until close' };
    if (typeof length !== 'string' || !/^\d{1,15}$/.test(length)) throw new Error('a body has no readable length');
    return { kind: 'length', left: Number(length) };
  }

  #end(): void {
    this.#state = { kind: 'idle' };
    this.#listener.onEnd(this.#keepAlive);
  }
}

function parseHead(text: string): AnswerHead {
  const lines = text.split('\r\n');
  const status = Number(/^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(lines[0] ?? '')?.[1]);
  if (!(status >= 100)) throw new Error('the first line is no status');
  const headers: Record<string, string | string[]> = Object.create(null); // names come from outside
  for (const line of lines.slice(1)) {
    const colon = line.indexOf(':');
    if (colon < 1) throw new Error('a header has no name');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    const before = headers[name];
    headers[name] = before === undefined ? value : [...[before].flat(), value];
  }
  return { status, headers };
}
