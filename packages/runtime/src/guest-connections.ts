/**
 * Connections to one guest for calls whose body is known whole: HTTP/1.1, one call at a time on each, kept open between calls. Written by hand because
 * every wake and every small call goes this way, and Node's HTTP/2 client took several times the CPU. Nothing here pings, and nothing has a time-out or
 * TCP keep-alive: while the guest is frozen it answers nothing, and its connections must sleep with it.
 */
import { AnswerParser, Failure, type AnswerHead } from '@torpor/kernel';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';

export interface WholeCall {
  readonly method: string;
  /** Raw path and query. */
  readonly path: string;
  /** Without those of the connection and of the body's framing, which is done here. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | undefined;
}

export interface CallListener {
  /** The body fails when the connection breaks, and takes the connection with it when it is destroyed before its end. */
  onHead(head: AnswerHead, body: Readable): void;
  /** No head will come. */
  onBroken(error: Error): void;
  /** The connection has nothing more to do with this call. */
  onOver(): void;
}

/** More calls at a time open more connections, which are closed afterwards: each costs the guest memory. */
const IDLE_MAX = 16;

export class GuestConnections {
  readonly #host: string;
  readonly #port: number;
  readonly #idle: Connection[] = [];
  readonly #all = new Set<Connection>();
  #closed = false;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  /** The answer gives up the call, and with it the connection: that is how HTTP/1.1 says so. */
  call(call: WholeCall, listener: CallListener): (reason: Error) => void {
    if (this.#closed) throw new Failure('unavailable', 'this guest was closed by us', { retryable: true });
    const head = headOf(call);
    const connection = this.#idleOne() ?? this.#open();
    connection.carry(head, call, listener);
    return (reason) => connection.giveUp(listener, reason);
  }

  close(): void {
    this.#closed = true;
    for (const connection of this.#all) connection.destroy(new Error('this guest was closed by us'));
  }

  #idleOne(): Connection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (!connection || connection.isUsable) return connection;
    }
  }

  #open(): Connection {
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true });
    const connection: Connection = new Connection(socket, {
      onFree: () => {
        if (this.#idle.length < IDLE_MAX) this.#idle.push(connection);
        else connection.destroy(new Error('there are connections enough'));
      },
      onClosed: () => {
        this.#all.delete(connection);
        const at = this.#idle.indexOf(connection);
        if (at >= 0) this.#idle.splice(at, 1);
      },
    });
    this.#all.add(connection);
    return connection;
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #parser: AnswerParser;
  readonly #events: { onFree: () => void; onClosed: () => void };
  #listener: CallListener | undefined;
  #body: AnswerBody | undefined;
  #reason: Error | undefined;

  constructor(socket: Socket, events: { onFree: () => void; onClosed: () => void }) {
    this.#socket = socket;
    this.#events = events;
    this.#parser = new AnswerParser({
      onHead: (head) => {
        this.#body = new AnswerBody(socket);
        this.#listener?.onHead(head, this.#body);
      },
      onData: (chunk) => {
        if (this.#body?.push(chunk) === false) socket.pause();
      },
      onEnd: (reusable) => this.#answered(reusable),
    });
    socket
      .on('data', (bytes) => this.#take(bytes))
      .on('error', (error) => (this.#reason ??= error))
      .once('close', () => this.#closed());
  }

  get isUsable(): boolean {
    return !this.#socket.destroyed && !this.#socket.readableEnded;
  }

  carry(head: string, { method, body }: WholeCall, listener: CallListener): void {
    this.#listener = listener;
    this.#parser.expect(method);
    this.#socket.cork();
    this.#socket.write(head, 'latin1');
    if (body !== undefined && body.length > 0) this.#socket.write(body);
    this.#socket.uncork();
  }

  giveUp(listener: CallListener, reason: Error): void {
    if (this.#listener === listener) this.destroy(reason);
  }

  destroy(reason: Error): void {
    this.#reason ??= reason;
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    try {
      this.#parser.take(bytes);
    } catch (error) {
      this.destroy(new Error(`the guest sent what is no answer: ${String(error)}`, { cause: error }));
    }
  }

  #answered(reusable: boolean): void {
    const [listener, body] = [this.#listener, this.#body];
    this.#listener = this.#body = undefined;
    body?.whole();
    // An answer before the end of its call leaves the connection in the middle of a body.
    if (reusable && this.isUsable && this.#socket.writableLength === 0) {
      this.#socket.resume();
      this.#events.onFree();
    } else this.destroy(new Error('the connection is used up'));
    listener?.onOver();
  }

  #closed(): void {
    this.#events.onClosed();
    // Where only the end of the connection frames the answer, a connection that broke is no end.
    if (this.#listener && this.#socket.readableEnded && this.#reason === undefined && this.#parser.close()) return;
    const [listener, body] = [this.#listener, this.#body];
    this.#listener = this.#body = undefined;
    const reason = this.#reason ?? new Error('the guest closed the connection before its answer was whole');
    if (body) body.destroy(reason);
    else listener?.onBroken(reason);
    listener?.onOver();
  }
}

/** The body of an answer while it comes. */
class AnswerBody extends Readable {
  #socket: Socket | undefined;

  constructor(socket: Socket) {
    // As much as one reading of the socket brings, a few times over.
    super({ highWaterMark: 256 * 1024 });
    this.#socket = socket;
    this.on('error', () => {}); // a body that nobody reads must not end the room when its connection breaks
  }

  whole(): void {
    this.#socket = undefined;
    this.push(null);
  }

  override _read(): void {
    this.#socket?.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    done(error);
  }
}

/** What frames a call may come from nobody else: whoever had a hand in it could make two calls of one. */
const FRAMING = new Set(['host', 'connection', 'content-length', 'transfer-encoding', 'expect', 'upgrade']);
const PATH = /^\/[\x21-\x7e\x80-\xff]*$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

function headOf({ method, path, headers, body }: WholeCall): string {
  if (!PATH.test(path)) throw new Failure('bad_request', 'the address holds what no address may');
  let head = `${method} ${path} HTTP/1.1\r\nhost: guest\r\n`;
  for (const [name, value] of Object.entries(headers)) {
    if (FRAMING.has(name)) continue;
    if (!VALUE.test(value)) throw new Failure('bad_request', `the header ${name} holds what no header may`);
    head += `${name}: ${value}\r\n`;
  }
  if (body !== undefined) head += `content-length: ${Buffer.byteLength(body)}\r\n`;
  else if (method !== 'GET' && method !== 'HEAD') head += 'content-length: 0\r\n';
  return `${head}\r\n`;
}
