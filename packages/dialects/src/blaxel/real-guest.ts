/** For tests: the real guest program as a plain process of this machine, its world in a temporary directory. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { tcpGuest, type Guest } from '@torpor/runtime';

const SOURCE = fileURLToPath(new URL('../../../guest', import.meta.url));
const START_MS = 10_000;

export interface RealGuest {
  readonly guest: Guest;
  /** A directory for the test's files; `workdir` lies in it. */
  readonly home: string;
  readonly workdir: string;
  close(): Promise<void>;
}

/** Builds the guest with Go, which keeps what it built, and starts it. */
export async function startRealGuest(): Promise<RealGuest> {
  const home = await mkdtemp(join(tmpdir(), 'torpor-dialects-'));
  const program = join(home, 'guest');
  await promisify(execFile)('go', ['build', '-o', program, './cmd/guest'], {
    cwd: SOURCE,
    env: { ...process.env, CGO_ENABLED: '0' },
    timeout: 120_000,
  });
  const workdir = join(home, 'blaxel');
  const { username, uid, gid } = userInfo();
  await Promise.all([mkdir(workdir), mkdir(join(home, 'etc')), mkdir(join(home, 'state'))]);
  await writeFile(join(home, 'etc/passwd'), `${username}:x:${uid}:${gid}::${workdir}:/bin/sh\n`);
  await writeFile(join(home, 'etc/group'), `${username}:x:${gid}:\n`);
  const child = spawn(
    program,
    [
      '--listen',
      '127.0.0.1:0',
      '--state-dir',
      join(home, 'state'),
      '--etc-dir',
      join(home, 'etc'),
      '--exit-on-sigterm',
    ],
    {
      env: { PATH: process.env['PATH'], HOME: workdir, TORPOR_BOOT_TOKEN: 'boot' },
      stdio: ['ignore', 'inherit', 'pipe'],
    },
  );
  const port = await portOf(child);
  const guest = tcpGuest({ host: '127.0.0.1', port }, 'boot');
  await guest.claim({
    name: 'demo',
    hostname: 'demo',
    env: { FROM_IDENTITY: 'yes' },
    workdir,
    user: username,
    token: 'the-token',
    generation: 1,
  });
  return { guest, home, workdir, close };

  async function close(): Promise<void> {
    guest.close();
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
    await rm(home, { recursive: true, force: true });
  }
}

/** The guest says in its first line where it listens. */
function portOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    if (!child.stderr) return reject(new Error('the guest was started without stderr'));
    const late = setTimeout(() => reject(new Error(`the guest did not listen within ${START_MS} ms`)), START_MS);
    child.once('exit', (code) => reject(new Error(`the guest ended with ${code} before it listened`)));
    createInterface(child.stderr).on('line', (line) => {
      const port = /listening on .*:(\d+)$/.exec(line)?.[1];
      if (port === undefined) return process.stderr.write(`${line}\n`);
      clearTimeout(late);
      resolve(Number(port));
    });
  });
}
