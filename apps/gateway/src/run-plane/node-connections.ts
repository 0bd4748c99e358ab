/**
 * Connections to the nodes' data planes: one request at a time on each, kept open between them, as many as there are requests. Written by hand because
 * it is the hot byte path and the measurement said so: against undici it takes less than half of the CPU for a MiB and adds less to a small request,
 * since bodies pass as the slices that the socket gave.
 */
import { connect, type Socket } from 'node:net';
import { AnswerParser, type AnswerHead } from '@torpor/kernel';
import type { BodyStream, OutgoingBody } from './body.ts';

export interface NodeRequest {
  /** `http://host:port`. */
  readonly origin: string;
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value; without those of the connection and of the body's framing, which is done here. */
  readonly headers: readonly string[];
  readonly body: OutgoingBody;
}

export interface NodeAnswerListener {
  onHead(head: AnswerHead): void;
  /** False: no more until `resume`. */
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  /** Instead of `onEnd`. */
  onError(error: unknown): void;
}

export interface Ongoing {
  resume(): void;
  /** Gives the request up; its listener hears `onError` with the reason. */
  abort(reason: unknown): void;
}

/** No byte of the request reached the node. */
export class Unreachable extends Error {}

export class NodeConnections {
  readonly #idle = new Map<string, Connection[]>();
  readonly #all = new Set<Connection>();
  readonly #connectMs: number;
  readonly #keepMs: number;
  #closed = false;

  constructor(timers: { connectMs: number; keepMs: number }) {
    this.#connectMs = timers.connectMs;
    this.#keepMs = timers.keepMs;
  }

  send(request: NodeRequest, listener: NodeAnswerListener): Ongoing {
    if (this.#closed) throw new Error('the connections to nodes are closed');
    if ([request.path, ...request.headers].some((text) => /[\r\n]/.test(text))) {
      throw new Error('a line break in a head would make two requests of one');
    }
    const connection = this.#idleOne(request.origin) ?? this.#open(request.origin);
    return connection.carry(request, listener);
  }

  close(): void {
    this.#closed = true;
    for (const connection of this.#all) connection.destroy(new Error('the gateway is closing'));
  }

  /** The one used last is the least likely to be closed by its peer just now. */
  #idleOne(origin: string): Connection | undefined {
    for (;;) {
      const connection = this.#idle.get(origin)?.pop();
      if (!connection || connection.isUsable) return connection;
    }
  }

  #open(origin: string): Connection {
    const timers = { connectMs: this.#connectMs, keepMs: this.#keepMs };
    const connection: Connection = new Connection(origin, timers, {
      onFree: () => {
        const idle = this.#idle.get(origin) ?? [];
        idle.push(connection);
        this.#idle.set(origin, idle);
      },
      onClosed: () => {
        this.#all.delete(connection);
        const idle = this.#idle.get(origin);
        const at = idle?.indexOf(connection) ?? -1;
        if (at >= 0) idle?.splice(at, 1);
        if (idle?.length === 0) this.#idle.delete(origin);
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
  #listener: NodeAnswerListener | undefined;
  #connected = false;
  /** A body is not sent to its end. */
  #sending = false;
  #ended = false;
  #reason: unknown;

  constructor(
    origin: string,
    timers: { connectMs: number; keepMs: number },
    events: { onFree: () => void; onClosed: () => void },
  ) {
    this.#events = events;
    this.#parser = new AnswerParser({
      onHead: (head) => this.#listener?.onHead(head),
      onData: (chunk) => {
        if (this.#listener?.onData(chunk) === false) this.#socket.pause();
      },
      onEnd: (reusable) => this.#answered(reusable),
    });
    const { hostname, port } = new URL(origin);
    const host = hostname.replace(/^\[|\]$/g, '');
    this.#socket = connect({ host, port: Number(port || 80), noDelay: true, keepAlive: true });
    this.#socket
      .setTimeout(timers.connectMs)
      .once('connect', () => {
        this.#connected = true;
        this.#socket.setTimeout(timers.keepMs);
      })
      .on('timeout', () => this.#silent(timers.connectMs))
      .on('data', (bytes) => this.#take(bytes))
      .on('error', (error) => (this.#reason ??= error))
      .once('end', () => (this.#ended = true))
      .once('close', () => this.#gone());
  }

  get isUsable(): boolean {
    return this.#socket.writable && !this.#ended;
  }

  carry(request: NodeRequest, listener: NodeAnswerListener): Ongoing {
    this.#listener = listener;
    this.#parser.expect(request.method);
    this.#send(request);
    return {
      resume: () => {
        if (this.#listener === listener) this.#socket.resume();
      },
      abort: (reason) => {
        if (this.#listener === listener) this.destroy(reason);
      },
    };
  }

  destroy(reason: unknown): void {
    this.#reason ??= reason;
    this.#socket.destroy();
  }

  /** Nothing moved for a while. A node may think about a request as long as it likes; for the next request a connection waits only so long. */
  #silent(connectMs: number): void {
    if (!this.#connected) this.destroy(new Unreachable(`the timer "connect to node" ended after ${connectMs} ms`));
    else if (!this.#listener) this.destroy(new Error('nothing was asked for a while'));
  }

  #send({ method, path, headers, body }: NodeRequest): void {
    let head = `${method} ${path} HTTP/1.1\r\n`;
    for (let i = 0; i + 1 < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
    head += `${framing(method, body)}\r\n`;
    switch (body.kind) {
      case 'none':
        this.#socket.write(head, 'latin1');
        return;
      case 'whole':
        this.#socket.write(Buffer.concat([Buffer.from(head, 'latin1'), body.bytes]));
        return;
      case 'stream':
        this.#socket.write(head, 'latin1');
        this.#sending = true;
        this.#pour(body).catch((error: unknown) => this.destroy(error));
    }
  }

  /** Ends early, with the request unsent, when the connection does. */
  async #pour({ pieces, length }: BodyStream): Promise<void> {
    const socket = this.#socket;
    let left = length ?? Infinity;
    // Not a byte is taken from the caller before there is somewhere to put it: until then the request can still go another way.
    if (!this.#connected) await this.#once('connect');
    while (socket.writable) {
      const piece = await pieces.peek();
      // While we waited the connection may have ended; then the piece belongs to the next attempt.
      if (!socket.writable) return;
      left -= piece?.length ?? 0;
      if (left < 0 || (piece === undefined && length !== undefined && left > 0)) {
        throw new Error('a body is not as long as was announced');
      }
      if (piece === undefined) {
        if (length === undefined) socket.write('0\r\n\r\n');
        this.#sending = false;
        return;
      }
      pieces.take();
      if (!this.#write(piece, length !== undefined)) await this.#once('drain');
    }
  }

  /** False: no more until it has drained. */
  #write(piece: Buffer, isSized: boolean): boolean {
    if (isSized) return this.#socket.write(piece);
    this.#socket.cork();
    this.#socket.write(`${piece.length.toString(16)}\r\n`);
    this.#socket.write(piece);
    const more = this.#socket.write('\r\n');
    this.#socket.uncork();
    return more;
  }

  /** Resolves as well when the connection ends. */
  #once(event: 'connect' | 'drain'): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#socket.off(event, done).off('close', done);
        resolve();
      };
      this.#socket.once(event, done).once('close', done);
    });
  }

  #take(bytes: Buffer): void {
    try {
      this.#parser.take(bytes);
    } catch (error) {
      this.destroy(error);
    }
  }

  #answered(reusable: boolean): void {
    const listener = this.#listener;
    this.#listener = undefined;
    // An answer before the end of its request leaves the connection in the middle of a body.
    if (reusable && !this.#sending && this.isUsable) {
      this.#socket.resume();
      this.#events.onFree();
    } else this.destroy(new Error('the connection is used up'));
    listener?.onEnd();
  }

  #gone(): void {
    this.#events.onClosed();
    // Where only the end of the connection frames the answer, a connection that broke is no end.
    if (this.#listener && this.#ended && this.#reason === undefined && this.#parser.close()) return;
    const listener = this.#listener;
    this.#listener = undefined;
    const reason = this.#reason ?? new Error('the node closed the connection');
    const isOurs = reason instanceof Unreachable || !(reason instanceof Error && 'code' in reason);
    listener?.onError(this.#connected || isOurs ? reason : new Unreachable('no connection', { cause: reason }));
  }
}

/**
 * Says where the body ends. Nobody else does: were it taken from the caller's headers, whoever had a hand in those could have the end of one request
 * read as the beginning of the next, which is another tenant's.
 */
function framing(method: string, body: OutgoingBody): string {
  switch (body.kind) {
    case 'none':
      return /^(POST|PUT|PATCH)$/.test(method) ? 'content-length: 0\r\n' : '';
    case 'whole':
      return `content-length: ${body.bytes.length}\r\n`;
    case 'stream':
      return body.length === undefined ? 'transfer-encoding: chunked\r\n' : `content-length: ${body.length}\r\n`;
  }
}
