import type { Duplex } from 'node:stream';
import type { FakeFiles } from './files.ts';
import type { FakeProcess } from './process.ts';

/** What a program of a fake instance can do. */
export interface FakeProgramWorld {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly hostname: string;
  readonly files: FakeFiles;
  readonly process: FakeProcess;
  /** Kept in an image, as JSON, and given to the program when it begins anew. */
  readonly memory: Record<string, unknown>;
  nowMs(): number;
  /** Output that may be redirected to a file. */
  print(text: string): void;
  complain(text: string): void;
  /** Waits so long in the time inside; rejects when the process was killed. */
  sleep(ms: number): Promise<void>;
  /** Serves a port until the process ends. */
  listen(port: number, serve: (connection: Duplex) => void): void;
}

/** Answers its exit code. */
export type FakeProgram = (world: FakeProgramWorld) => number | Promise<number>;

/** What every fake instance has installed; tests may add to it. */
export const FAKE_PROGRAMS: Readonly<Record<string, FakeProgram>> = {
  true: () => 0,
  false: () => 1,
  exit: ({ args }) => Number(args[0] ?? 0),
  echo: ({ args, print }) => {
    print(`${args.join(' ')}\n`);
    return 0;
  },
  pwd: ({ cwd, print }) => {
    print(`${cwd}\n`);
    return 0;
  },
  hostname: ({ hostname, print }) => {
    print(`${hostname}\n`);
    return 0;
  },
  env: ({ env, print }) => {
    for (const [name, value] of Object.entries(env)) print(`${name}=${value}\n`);
    return 0;
  },
  sleep: async ({ args, memory, nowMs, sleep }) => {
    const untilMs = Number((memory['untilMs'] ??= nowMs() + Number(args[0]) * 1000));
    await sleep(Math.max(0, untilMs - nowMs()));
    return 0;
  },
  cat: async ({ args, cwd, files, process, print, complain }) => {
    if (args.length === 0) {
      for (let data = await process.readInput(); data; data = await process.readInput()) print(data.toString('utf8'));
      return 0;
    }
    for (const arg of args) {
      const path = arg.startsWith('/') ? arg : `${cwd}/${arg}`;
      if (!files.exists(path)) {
        complain(`cat: ${arg}: No such file or directory\n`);
        return 1;
      }
      print(files.read(path).toString('utf8'));
    }
    return 0;
  },
  /** `count N`: a line each N milliseconds, 1, 2, 3 …, until it is killed. */
  count: async ({ args, memory, print, sleep }) => {
    for (;;) {
      const n = Number(memory['n'] ?? 0) + 1;
      print(`${n}\n`);
      memory['n'] = n;
      await sleep(Number(args[0] ?? 100));
    }
  },
  /** `echo-server PORT`: gives back what it gets, and ends when the other side does. */
  'echo-server': async ({ args, listen, sleep }) => {
    listen(Number(args[0]), (connection) => connection.pipe(connection));
    for (;;) await sleep(3_600_000);
  },
  /** `http-server PORT`: answers each connection's first bytes with a small HTTP page and closes. */
  'http-server': async ({ args, hostname, listen, sleep }) => {
    const page = `hello from ${hostname}\n`;
    listen(Number(args[0]), (connection) => {
      const head = `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${page.length}\r\nconnection: close\r\n\r\n`;
      connection.once('data', () => connection.end(head + page));
    });
    for (;;) await sleep(3_600_000);
  },
};
