import { Changes } from './changes.ts';

export type FakeStream = 'stdout' | 'stderr';

export interface FakeOutput {
  readonly stream: FakeStream;
  readonly offset: number;
  readonly data: Buffer;
}

/** What a process was started with: the body of `POST /v1/processes`. */
export interface FakeStart {
  readonly name?: string;
  readonly argv?: readonly string[];
  readonly shell?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly stdin?: boolean;
  readonly pty?: { cols: number; rows: number };
  readonly timeoutMs?: number;
  readonly keepAlive?: boolean;
  readonly waitMs?: number;
  readonly outputLimit?: number;
}

/** A process at one moment. */
export interface FakeProcessImage {
  readonly id: string;
  readonly pid: number;
  readonly start: FakeStart;
  readonly startedAtMs: number;
  readonly outputs: readonly FakeOutput[];
  readonly input: readonly Buffer[];
  readonly inputEnded: boolean;
  readonly memory: Record<string, unknown>;
  readonly exit: Pick<FakeProcess, 'exitCode' | 'exitSignal' | 'exitedAtMs' | 'endReason'>;
}

const SIGNALS: Readonly<Record<string, number>> = { HUP: 1, INT: 2, QUIT: 3, KILL: 9, USR1: 10, USR2: 12, TERM: 15 };

/** One process of a fake instance: its output, its stdin and its end. What it does is a program's affair. */
export class FakeProcess {
  readonly id: string;
  readonly pid: number;
  readonly start: FakeStart;
  readonly startedAtMs: number;
  readonly outputs: FakeOutput[] = [];
  readonly changes = new Changes();
  /** What its program knows, as JSON: a program that comes back from an image begins anew with this. */
  readonly memory: Record<string, unknown>;
  readonly #sizes = { stdout: 0, stderr: 0 };
  readonly #stop = new AbortController();
  #input: Buffer[] = [];
  #inputEnded: boolean;
  exitCode: number | undefined;
  exitSignal: string | undefined;
  exitedAtMs: number | undefined;
  endReason: 'timeout' | 'signal' | undefined;

  constructor(id: string, pid: number, start: FakeStart, startedAtMs: number, memory: Record<string, unknown> = {}) {
    this.memory = memory;
    this.id = id;
    this.pid = pid;
    this.start = start;
    this.startedAtMs = startedAtMs;
    this.#inputEnded = !start.stdin && !start.pty;
  }

  static restored(image: FakeProcessImage): FakeProcess {
    const { id, pid, start, startedAtMs, exit } = image;
    const process = new FakeProcess(id, pid, start, startedAtMs, structuredClone(image.memory));
    for (const { stream, data } of image.outputs) process.write(stream, data);
    process.#input = [...image.input];
    process.#inputEnded = image.inputEnded;
    Object.assign(process, exit);
    if (exit.exitCode !== undefined) process.#stop.abort(new Error('the process has ended'));
    return process;
  }

  image(): FakeProcessImage {
    const { id, pid, start, startedAtMs, exitCode, exitSignal, exitedAtMs, endReason } = this;
    return {
      id,
      pid,
      start,
      startedAtMs,
      outputs: [...this.outputs],
      input: [...this.#input],
      inputEnded: this.#inputEnded,
      memory: structuredClone(this.memory),
      exit: { exitCode, exitSignal, exitedAtMs, endReason },
    };
  }

  get isRunning(): boolean {
    return this.exitCode === undefined;
  }

  /** Aborts when the process has been killed. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  get name(): string {
    return this.start.name ?? this.id;
  }

  write(stream: FakeStream, data: Buffer): void {
    if (!this.isRunning || data.length === 0) return;
    this.outputs.push({ stream, offset: this.#sizes[stream], data });
    this.#sizes[stream] += data.length;
    this.changes.announce();
  }

  feed(data: Buffer): boolean {
    if (this.#inputEnded || !this.isRunning) return false;
    this.#input.push(data);
    this.changes.announce();
    return true;
  }

  endInput(): void {
    this.#inputEnded = true;
    this.changes.announce();
  }

  /** The next bytes of stdin; undefined at its end. */
  async readInput(): Promise<Buffer | undefined> {
    while (this.#input.length === 0 && !this.#inputEnded && this.isRunning) await this.changes.next();
    const chunks = this.#input;
    this.#input = [];
    return chunks.length > 0 ? Buffer.concat(chunks) : undefined;
  }

  exit(code: number, atMs: number): void {
    if (!this.isRunning) return;
    this.exitCode = code;
    this.exitedAtMs = atMs;
    this.#stop.abort(new Error('the process has ended'));
    this.changes.announce();
  }

  signal(signal: string, atMs: number, reason: 'timeout' | 'signal' = 'signal'): void {
    if (!this.isRunning) return;
    this.exitSignal = signal;
    this.endReason = reason;
    this.exit(128 + (SIGNALS[signal] ?? 15), atMs);
  }

  text(streams: readonly FakeStream[], limit: number): { text: string; truncated: boolean } {
    const bytes = Buffer.concat(this.outputs.filter((o) => streams.includes(o.stream)).map((o) => o.data));
    return { text: bytes.subarray(0, limit).toString('utf8'), truncated: bytes.length > limit };
  }

  facts(workdir: string): Record<string, unknown> {
    const { start } = this;
    return {
      id: this.id,
      pid: this.pid,
      name: this.name,
      argv: start.argv ?? ['/bin/sh', '-c', start.shell ?? ''],
      command: start.shell ?? (start.argv ?? []).join(' '),
      cwd: start.cwd ?? workdir,
      user: start.user ?? 'root',
      status: this.isRunning ? 'running' : 'exited',
      exitCode: this.exitCode ?? null,
      signal: this.exitSignal ?? null,
      startedAt: new Date(this.startedAtMs).toISOString(),
      exitedAt: this.exitedAtMs === undefined ? null : new Date(this.exitedAtMs).toISOString(),
      stdoutBytes: this.#sizes.stdout,
      stderrBytes: this.#sizes.stderr,
      keepAlive: start.keepAlive ?? false,
      stdin: start.stdin ?? false,
      pty: start.pty !== undefined,
      restarts: 0,
      ...(this.endReason ? { endReason: this.endReason } : {}),
    };
  }
}
