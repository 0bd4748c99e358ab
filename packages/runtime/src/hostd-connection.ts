import { Failure } from '@torpor/kernel';
import { connect, type Socket } from 'node:net';
import { z } from 'zod';
import { HostdError, hostdFailure } from './hostd-failures.ts';

const LINE_BYTES_MAX = 1024 * 1024;
const ANSWER_GRACE_MS = 1000;

const Answer = z.union([
  z.object({ id: z.number(), ok: z.literal(true), result: z.unknown() }),
  z.object({ id: z.number(), ok: z.literal(false), error: HostdError }),
]);

interface Pending {
  readonly verb: string;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** One connection to hostd: many verbs in flight, answered in any order. When it breaks, all of them fail as retryable. */
export class HostdConnection {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #rest = '';
  #broken: BrokenConnection | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#take(text));
    socket.on('error', (error) => this.#break(error));
    socket.on('close', () => this.#break(new Error('hostd closed the connection')));
  }

  /** Rejects with the system's error when nothing listens there. */
  static open(path: string): Promise<HostdConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new HostdConnection(socket));
      });
    });
  }

  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  /** `deadlineMs` is told to hostd; we wait a little longer, so that its own word on what was late comes first. */
  call(verb: string, args: object, deadlineMs: number, traceparent?: string): Promise<unknown> {
    if (this.#broken) return Promise.reject(this.#broken);
    this.#lastId += 1;
    const id = this.#lastId;
    const line = JSON.stringify({ id, verb, args, deadlineMs, traceparent });
    if (line.length > LINE_BYTES_MAX / 2)
      return Promise.reject(new Error(`the arguments of "${verb}" are too long for hostd`));
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => this.#late(id, deadlineMs), deadlineMs + ANSWER_GRACE_MS);
    this.#pending.set(id, {
      verb,
      resolve(result) {
        clearTimeout(timer);
        resolve(result);
      },
      reject(error) {
        clearTimeout(timer);
        reject(error);
      },
    });
    this.#socket.write(`${line}\n`);
    return promise;
  }

  close(): void {
    this.#break(new Error('we closed the connection'));
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#answer(line);
    if (this.#rest.length > LINE_BYTES_MAX) this.#break(new Error('hostd sent a line that is too long'));
  }

  #answer(line: string): void {
    const parsed = Answer.safeParse(parseJson(line));
    if (!parsed.success) return this.#break(new Error(`hostd sent what is no answer: ${line.slice(0, 200)}`));
    const answer = parsed.data;
    const pending = this.#pending.get(answer.id);
    if (!pending) return; // its caller stopped waiting
    this.#pending.delete(answer.id);
    if (answer.ok) pending.resolve(answer.result);
    else pending.reject(hostdFailure(pending.verb, answer.error));
  }

  #late(id: number, deadlineMs: number): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    const timer = `hostd ${pending?.verb}`;
    const message = `the timer "${timer}" ended after ${deadlineMs} ms, and hostd says nothing`;
    pending?.reject(new Failure('deadline_exceeded', message, { retryable: true, details: { timer, ms: deadlineMs } }));
  }

  #break(cause: Error): void {
    if (this.#broken) return;
    const broken = new BrokenConnection(cause);
    this.#broken = broken;
    this.#socket.destroy();
    for (const pending of this.#pending.values()) pending.reject(broken);
    this.#pending.clear();
  }
}

/** The connection broke under a call. */
export class BrokenConnection extends Failure {
  constructor(cause: Error) {
    const message = `the connection to hostd broke: ${cause.message}; what was asked may or may not have been done`;
    super('unavailable', message, { retryable: true, cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller tells what it got instead
  }
}
