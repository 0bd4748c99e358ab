import { posix } from 'node:path';
import { Duplex, duplexPair } from 'node:stream';
import type { GuestIdentity } from '../guest.ts';
import { guestError, type FakeFiles } from './files.ts';
import type { FakeMemory, FakeMount } from './image.ts';
import { afterInside, type Inside } from './inside.ts';
import { FakeProcess, type FakeStart } from './process.ts';
import type { FakeProgram, FakeProgramWorld } from './programs.ts';
import { VOLUMES_DIR } from '../port.ts';
import { runShell } from './shell.ts';

const COMMAND_CPU_NS = 100_000;

/** What is inside a fake instance: identity, processes, listeners, and its disk. It lives in the FakeHost and outlives every driver. */
export class FakeMachine {
  readonly inside: Inside;
  readonly files: FakeFiles;
  readonly processes: FakeProcess[] = [];
  readonly listeners = new Map<number, { serve: (connection: Duplex) => void; process: FakeProcess }>();
  readonly startedAtMs: number;
  readonly #programs: Readonly<Record<string, FakeProgram>>;
  #token: string;
  #identity: GuestIdentity | undefined;
  #processCount = 0;
  readonly #mounts = new Map<string, FakeMount>();

  /** `from`: a token for a machine that has run nothing yet, or the memory of one that had. */
  constructor(
    inside: Inside,
    files: FakeFiles,
    from: { token: string } | FakeMemory,
    programs: Readonly<Record<string, FakeProgram>>,
  ) {
    this.inside = inside;
    this.files = files;
    this.#token = from.token;
    this.#programs = programs;
    this.startedAtMs = 'startedAtMs' in from ? from.startedAtMs : inside.clock.nowMs();
    if ('processes' in from) this.#goOn(from);
  }

  /** What it is now, as values. */
  memory(): FakeMemory {
    return {
      token: this.#token,
      identity: structuredClone(this.#identity),
      startedAtMs: this.startedAtMs,
      processCount: this.#processCount,
      processes: this.processes.map((process) => process.image()),
      mounts: this.mounts,
    };
  }

  get mounts(): FakeMount[] {
    return [...this.#mounts.values()];
  }

  mount({ source, target, readOnly = false }: { source: string; target: string; readOnly?: boolean }): FakeMount {
    const there = this.#mounts.get(target);
    if (there?.source === source) return there;
    if (there) throw guestError(409, 'conflict', `${there.source} is mounted at ${target} already`);
    const files = this.inside.volume(posix.relative(VOLUMES_DIR, source));
    if (!files) throw guestError(404, 'not_found', `the volume ${source} is not attached`);
    this.files.mount(target, files);
    const mount = { source, target, readOnly };
    this.#mounts.set(target, mount);
    return mount;
  }

  unmount(target: string): void {
    if (!this.#mounts.has(target)) throw guestError(404, 'not_found', `nothing is mounted at ${target}`);
    if (this.running.some(({ start }) => start.cwd !== undefined && this.resolve(start.cwd) === target)) {
      throw guestError(409, 'conflict', `${target} is in use`);
    }
    this.#mounts.delete(target);
    this.files.unmount(target);
  }

  get identity(): GuestIdentity | undefined {
    return this.#identity;
  }

  get workdir(): string {
    return this.#identity?.workdir ?? '/';
  }

  get keepAlive(): number {
    return this.running.filter((process) => process.start.keepAlive).length;
  }

  get running(): FakeProcess[] {
    return this.processes.filter((process) => process.isRunning);
  }

  accepts(token: string): boolean {
    return token === this.#token;
  }

  claim(identity: GuestIdentity & { files?: { path: string; mode?: string; content: string }[] }): void {
    this.#assertGreater(identity.generation);
    this.#identity = identity;
    this.#token = identity.token;
    this.files.mkdir(identity.workdir);
    this.files.write('/run/torpor/generation', Buffer.from(`${identity.generation}\n`));
    for (const { path, mode, content } of identity.files ?? []) {
      this.files.write(this.resolve(path), Buffer.from(content), { parents: true, ...(mode ? { mode } : {}) });
    }
  }

  /** The notice of a restore. */
  advance(generation: number): void {
    this.#assertGreater(generation);
    if (this.#identity) this.#identity = { ...this.#identity, generation };
    this.files.write('/run/torpor/generation', Buffer.from(`${generation}\n`));
  }

  #assertGreater(generation: number): void {
    const before = this.#identity?.generation ?? 0;
    if (generation > before) return;
    throw guestError(409, 'conflict', `the generation is ${before} already, expected a greater one than ${generation}`);
  }

  resolve(path: string): string {
    if (path === '') throw guestError(400, 'bad_request', 'a path is missing');
    const home = path === '~' || path.startsWith('~/') ? `/root${path.slice(1)}` : path;
    const full = posix.resolve(this.workdir, home);
    return full;
  }

  /** The process of that id, pid or name, the newest of that name. */
  process(key: string): FakeProcess {
    const found =
      this.processes.find((p) => p.id === key || String(p.pid) === key) ??
      this.processes.findLast((p) => p.name === key);
    if (!found) throw guestError(404, 'not_found', `no process has the id, pid or name "${key}"`);
    return found;
  }

  start(start: FakeStart): FakeProcess {
    const { clock } = this.inside;
    if (!start.argv && start.shell === undefined) throw guestError(400, 'bad_request', 'expected argv or shell');
    if (this.running.some((p) => p.name === start.name)) {
      throw guestError(409, 'exists', `a process named "${start.name}" is running`);
    }
    this.#processCount += 1;
    const process = new FakeProcess(`p${this.#processCount}`, 100 + this.#processCount, start, clock.nowMs());
    this.processes.push(process);
    this.#begin(process);
    return process;
  }

  /** Connects to a listener inside. Bytes stop while the instance is frozen. */
  connect(port: number): Duplex {
    const listener = this.listeners.get(port);
    if (!listener) throw guestError(502, 'failed', `nothing listens on port ${port}`);
    const [outer, near] = duplexPair();
    const [far, inner] = duplexPair();
    near.pipe(this.#gated()).pipe(far);
    far.pipe(this.#gated()).pipe(near);
    for (const end of [near, far, inner]) {
      end.on('error', () => outer.destroy()); // one broken end ends the connection
    }
    outer.once('close', () => inner.destroy());
    listener.serve(inner);
    return outer;
  }

  kill(): void {
    this.files.unmountAll();
    for (const process of this.running) process.exit(137, this.inside.clock.nowMs());
  }

  #goOn(memory: FakeMemory): void {
    this.#identity = memory.identity;
    this.#processCount = memory.processCount;
    for (const mount of memory.mounts) this.mount(mount);
    this.processes.push(...memory.processes.map((image) => FakeProcess.restored(image)));
    for (const process of this.running) this.#begin(process);
  }

  #begin(process: FakeProcess): void {
    void this.#run(process);
    const { timeoutMs } = process.start;
    if (timeoutMs) void this.#limit(process, process.startedAtMs + timeoutMs - this.inside.clock.nowMs());
  }

  async #run(process: FakeProcess): Promise<void> {
    let code: number;
    try {
      code = await this.#execute(process);
    } catch (error) {
      if (!process.isRunning) return; // it was killed, which is how programs that never end do end
      process.write('stderr', Buffer.from(`${error instanceof Error ? error.message : String(error)}\n`));
      code = 1;
    }
    await this.inside.gate.passed();
    process.exit(code, this.inside.clock.nowMs());
    for (const [port, listener] of this.listeners) if (listener.process === process) this.listeners.delete(port);
  }

  #execute(process: FakeProcess): number | Promise<number> {
    const spend = () => this.inside.spend(COMMAND_CPU_NS);
    const world = this.#world(process);
    const { argv, shell } = process.start;
    if (shell !== undefined) return runShell(shell, world, this.#programs, spend);
    const [name = '', ...args] = argv ?? [];
    if (/(^|\/)(ba|da)?sh$/.test(name) && args[0]?.startsWith('-') && args[0].endsWith('c')) {
      return runShell(args[1] ?? '', world, this.#programs, spend);
    }
    spend();
    const program = this.#programs[posix.basename(name)];
    if (!program) throw new Error(`${name}: not found`);
    return program({ ...world, args });
  }

  #world(process: FakeProcess): Omit<FakeProgramWorld, 'args'> {
    const identity = this.#identity;
    return {
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/root', ...identity?.env, ...process.start.env },
      cwd: this.resolve(process.start.cwd ?? this.workdir),
      hostname: identity?.hostname ?? 'pooled',
      files: this.files,
      process,
      memory: process.memory,
      nowMs: () => this.inside.clock.nowMs(),
      print: (text) => process.write('stdout', Buffer.from(text)),
      complain: (text) => process.write('stderr', Buffer.from(text)),
      sleep: (ms) => afterInside(this.inside, ms, process.stopped),
      listen: (port, serve) => this.listeners.set(port, { serve, process }),
    };
  }

  async #limit(process: FakeProcess, timeoutMs: number): Promise<void> {
    try {
      await afterInside(this.inside, timeoutMs, process.stopped);
    } catch {
      return; // it ended in time
    }
    process.signal('KILL', this.inside.clock.nowMs(), 'timeout');
  }

  #gated(): Duplex {
    const { gate } = this.inside;
    return Duplex.from(async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        await gate.passed();
        yield chunk;
      }
    });
  }
}
