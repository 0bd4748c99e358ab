import { spawn, type ChildProcess } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { setTimeout as after } from 'node:timers/promises';

/** A program that did not end with 0. `tail` is the end of what it printed. */
export class CommandFailed extends Error {
  readonly tail: string;
  readonly logPath: string | null;

  constructor(what: string, found: { readonly tail: string; readonly logPath: string | null }) {
    super(what);
    this.name = 'CommandFailed';
    this.tail = found.tail;
    this.logPath = found.logPath;
  }
}

export interface CommandOptions {
  readonly cwd?: string;
  /** Absent: ours. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Added to the environment of this process; another account is given this alone. */
  readonly env?: Readonly<Record<string, string>>;
  /** Written to the program's standard input. */
  readonly input?: string;
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Runs a program with both its outputs appended to `logPath`; throws `CommandFailed` unless it ends with 0 in time. */
export async function runLogged(logPath: string, argv: readonly string[], options: CommandOptions): Promise<void> {
  const log = await open(logPath, 'a', 0o644);
  try {
    await log.appendFile(`$ ${argv.join(' ')}\n`);
    const end = await runToEnd(argv, options, log.fd);
    if (end.kind !== 'ok')
      throw new CommandFailed(`${argv[0]} ${describe(end)}`, { tail: await tailOf(logPath), logPath });
  } finally {
    await log.close();
  }
}

/** Runs a program and gives what it printed on standard output; throws `CommandFailed` unless it ends with 0 in time. */
export async function runRead(argv: readonly string[], options: CommandOptions): Promise<string> {
  const end = await runToEnd(argv, options, 'pipe');
  if (end.kind !== 'ok') {
    throw new CommandFailed(`${argv.join(' ')} ${describe(end)}`, { tail: lastLines(end.stderr), logPath: null });
  }
  return end.stdout;
}

/** Runs a program to its end, whatever that is, and passes on what it prints as it comes. Answers how it failed ("ended with 1"), or nothing. */
export async function runWatched(
  argv: readonly string[],
  options: CommandOptions & { readonly heard: (text: string) => void },
): Promise<string | undefined> {
  const end = await runToEnd(argv, options, 'pipe', options.heard);
  return end.kind === 'ok' ? undefined : describe(end);
}

type End = { readonly stdout: string; readonly stderr: string } & (
  | { readonly kind: 'ok' }
  | { readonly kind: 'exit'; readonly code: number | null; readonly by: NodeJS.Signals | null }
  | { readonly kind: 'deadline'; readonly afterMs: number }
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'not-started'; readonly why: string }
);

function runToEnd(
  [program, ...args]: readonly string[],
  options: CommandOptions,
  output: number | 'pipe',
  heard: (text: string) => void = () => {},
): Promise<End> {
  if (program === undefined) throw new TypeError('runToEnd was given no program');
  const { user } = options;
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: user ? { ...options.env } : { ...process.env, ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', output, output],
    // A group of its own, which is ended whole: a program that was killed would leave its children at work on what the next run makes anew.
    detached: true,
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk;
    heard(chunk);
  });
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk;
    heard(chunk);
  });
  // A program that ends before it has read its input makes this pipe fail; its exit code tells why.
  child.stdin?.on('error', () => undefined).end(options.input);

  return new Promise((resolve, reject) => {
    let isCut = false;
    function stop(end: { kind: 'deadline'; afterMs: number } | { kind: 'interrupted' }): void {
      if (isCut) return;
      isCut = true;
      endGroup(child).then(() => finish({ ...end, stdout, stderr }), reject);
    }
    const timer = setTimeout(() => stop({ kind: 'deadline', afterMs: options.deadlineMs }), options.deadlineMs);
    const abort = (): void => stop({ kind: 'interrupted' });
    if (options.signal?.aborted === true) abort();
    options.signal?.addEventListener('abort', abort, { once: true });

    function finish(end: End): void {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', abort);
      resolve(end);
    }
    child.on('error', (error) => finish({ kind: 'not-started', why: error.message, stdout, stderr }));
    child.on('close', (code, by) => {
      if (isCut) return; // its children may be left
      if (code === 0) finish({ kind: 'ok', stdout, stderr });
      else finish({ kind: 'exit', code, by, stdout, stderr });
    });
  });
}

/** How long a program and its children may take to clean up after themselves, and then to die. */
const GRACE_MS = 5_000;
const LOOK_MS = 20;

/** Asks a program and its children to end, and after the grace makes them. While one of them is left, the number of their group is nobody else's. */
async function endGroup({ pid, stdout, stderr }: ChildProcess): Promise<void> {
  if (pid === undefined) return; // it did not start
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const until = performance.now() + GRACE_MS;
    let isLeft = signalGroup(pid, signal);
    while (isLeft && performance.now() < until) {
      await after(LOOK_MS);
      isLeft = signalGroup(pid, 0);
    }
    if (!isLeft) break;
  }
  // One that left the group may hold them open for ever.
  for (const pipe of [stdout, stderr]) pipe?.destroy();
}

/** False when none of them is left. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

function describe(end: Exclude<End, { kind: 'ok' }>): string {
  switch (end.kind) {
    case 'exit':
      return end.code === null ? `was ended by ${end.by}` : `ended with ${end.code}`;
    case 'deadline':
      return `was not done after ${end.afterMs / 1000} s and was ended`;
    case 'interrupted':
      return 'was interrupted';
    case 'not-started':
      return `did not start: ${end.why}`;
  }
}

async function tailOf(logPath: string): Promise<string> {
  return lastLines(await readFile(logPath, 'utf8'));
}

function lastLines(text: string): string {
  return text.trimEnd().split('\n').slice(-20).join('\n');
}
