import { spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import type { Command } from 'commander';
import { Failure } from '@torpor/kernel';
import { ensureSetup } from '../setup/setup.ts';
import { onInterruption } from '../interruption.ts';
import { askStart, askStatus, askStop, type StackStart, type StackStatus } from '../up/control.ts';
import { readCredentials } from '../up/credentials.ts';
import { environmentOf, exportLines } from '../up/environment-lines.ts';
import { thisInstallation, type Installation } from '../up/installation.ts';
import { nameProcess, isRunning } from '../up/processes.ts';
import { settingsFrom } from '../up/settings.ts';
import { endOrphans, orphansOf, pidFileOf, type Child } from '../up/supervisor.ts';
import { OTHER_AT_WORK, takeUpLock } from '../up/up-lock.ts';

const START_MS = 15 * 60_000;
const STOP_MS = 60_000;

export function addStackCommands(torpor: Command): void {
  torpor
    .command('up')
    .description('start the stack and keep it running; Ctrl-C leaves the sandboxes frozen for the next start')
    .option('--listen <address>', 'address that the gateway listens on (default 127.0.0.1)')
    .option('--public-url <url>', 'what the outside calls it (default from the address)')
    .option('--pool <n>', 'instances kept ready (default 8)')
    .option('--disk <GiB>', 'size of the disk pool, taken at once (default a quarter of the free space, at most 64)')
    .option('--nodes <n>', 'nodes on this machine, to try out what they do with each other (default 1)')
    .option(
      '--swap <kind>',
      'what sleepers are paged out to: auto, crypt, zram, file (plain), host (as it is, encrypted or not) or none (default auto)',
    )
    .option('--swap-mib <MiB>', 'size of the swap that is made where the host has none (default half the memory)')
    .option(
      '--lean-after <s>',
      'sleep that long in RAM before being paged out; 0: only when memory is short (default 300)',
    )
    .option(
      '--workspace <name>',
      'a workspace to use from then on, and to make if there is none of that name (at first main)',
    )
    .option('--detach', 'return when it stands, and leave it running in the background')
    .action(async (options: Record<string, string> & { detach?: boolean }) => {
      const before = await readCredentials(thisInstallation());
      if (options.detach) {
        const wasUp = (await askStart(thisInstallation())) !== undefined;
        const status = await bringUp(startOptions(options));
        process.stdout.write(`Torpor is up: ${status.url} (supervisor ${status.pid}; "torpor down" ends it)\n`);
        const credentials = await readCredentials(thisInstallation());
        if (credentials) process.stdout.write(`\n${exportLines(environmentOf('blaxel', credentials))}\n`);
        sayWorkspace({ asked: options.workspace, before: before?.workspace, now: credentials?.workspace, wasUp });
      } else await stayUp(options, before?.workspace);
    });
  torpor
    .command('down')
    .description('stop the stack; sandboxes stay frozen on this machine')
    .option('--purge', 'also end every sandbox and remove everything that this installation has on this machine')
    .action(({ purge: all }: { purge?: boolean }) => takeDown(all ?? false));
  torpor
    .command('status')
    .description('say what runs; the exit code is 0 only when the stack is up, and 1 otherwise')
    .option('--json', 'for programs; null when nothing runs')
    .action(({ json }: { json?: boolean }) => showStatus(json ?? false));
}

function startOptions(options: Readonly<Record<string, unknown>>): string[] {
  const flags = {
    listen: '--listen',
    publicUrl: '--public-url',
    pool: '--pool',
    disk: '--disk',
    swap: '--swap',
    swapMib: '--swap-mib',
    leanAfter: '--lean-after',
    nodes: '--nodes',
    workspace: '--workspace',
  };
  return Object.entries(flags).flatMap(([name, flag]) =>
    options[name] === undefined ? [] : [flag, String(options[name])],
  );
}

async function stayUp(options: Record<string, string>, workspaceBefore: string | undefined): Promise<void> {
  const installation = thisInstallation();
  const began = performance.now();
  const { signal } = onInterruption('the start was interrupted; "torpor up" takes it up again');
  const settings = settingsFrom(options, process.env);
  const { startStack } = await import('../up/start.ts'); // most of this program's modules, for this command alone
  const stack = await startStack(installation, settings, { out: process.stderr, signal });
  const credentials = await readCredentials(installation);
  process.stderr.write(`\nTorpor is up after ${((performance.now() - began) / 1000).toFixed(1)} s: ${stack.url}\n`);
  if (credentials) {
    process.stderr.write(`Log: ${join(installation.stateDir, 'torpor.log')}\nFor @blaxel/core and its CLI:\n\n`);
    process.stdout.write(`${exportLines(environmentOf('blaxel', credentials))}\n`);
    const now = credentials.workspace;
    sayWorkspace({ asked: options['workspace'], before: workspaceBefore, now, wasUp: false });
    process.stderr.write('\nCtrl-C stops the stack and leaves the sandboxes frozen for the next start.\n');
  }
  await stack.stopAsked;
  process.stderr.write('Stopping; sandboxes stay, frozen.\n');
  await stack.stop();
  process.exit(0); // Nothing of ours is left; a socket that still drains must not keep the terminal.
}

type WorkspaceTurn = Record<'asked' | 'before' | 'now', string | undefined> & { wasUp: boolean };

function sayWorkspace(turn: WorkspaceTurn): void {
  const words = workspaceWords({ ...turn, asked: turn.asked ?? process.env.TORPOR_WORKSPACE });
  if (words) process.stderr.write(`\n${words}\n`);
}

/** What somebody must know of the workspace that this program uses from now on, where it is not what they may expect. */
export function workspaceWords({ asked, before, now, wasUp }: WorkspaceTurn): string {
  if (before !== undefined && now !== undefined && now !== before)
    return `"torpor" and "torpor env" use the workspace "${now}" from now on. "${before}" keeps its sandboxes and keys; "torpor up --workspace ${before}" leads back.`;
  if (asked === undefined || now === undefined || now === asked) return '';
  const how = wasUp
    ? `the stack was up already. "torpor down" and then "torpor up --workspace ${asked}" turn to "${asked}".`
    : `"${asked}" has keys, and none of them is kept here. TORPOR_WORKSPACE and TORPOR_API_KEY lead there.`;
  return `"torpor" and "torpor env" go on using the workspace "${now}": ${how}`;
}

/** Makes sure that the stack is up, in the background if it was not. The set-up's progress is shown here. */
export async function bringUp(args: readonly string[]): Promise<StackStart> {
  const installation = thisInstallation();
  const outFile = join(installation.stateDir, 'up.out');
  const already = await askStart(installation);
  if (already) return waitReady(installation, already.pid, outFile);
  await ensureSetup({ want: ['up'], out: process.stderr });
  await mkdir(installation.stateDir, { recursive: true });
  await rm(outFile, { force: true });
  const out = openSync(outFile, 'a', 0o600);
  const child = spawn(process.execPath, [...process.execArgv, join(import.meta.dirname, '../main.ts'), 'up', ...args], {
    detached: true,
    stdio: ['ignore', out, out],
    cwd: '/',
  });
  child.unref();
  const pid = child.pid;
  if (pid === undefined) throw new Failure('unavailable', `the supervisor did not start; see ${outFile}`);
  return waitReady(installation, pid, outFile);
}

/** `started` is the supervisor to wait for, unless another one was first. */
async function waitReady(installation: Installation, started: number, outFile: string): Promise<StackStart> {
  const until = performance.now() + START_MS;
  let pid = started;
  while (performance.now() < until) {
    const start = await askStart(installation);
    if (start?.ready) return start;
    pid = start?.pid ?? pid;
    if (!(await nameProcess(pid))) {
      const said = await readFile(outFile, 'utf8').catch(() => 'its own terminal says why');
      throw new Failure('unavailable', `the stack did not come up:\n${said.trim().split('\n').slice(-15).join('\n')}`);
    }
    await after(20);
  }
  throw new Failure(
    'deadline_exceeded',
    `the stack was not up after ${START_MS / 1000} s (timer "up"); see ${outFile}`,
  );
}

async function takeDown(all: boolean): Promise<void> {
  const installation = thisInstallation();
  const running = await askStart(installation);
  if (running) await stopSupervisor(installation, running.pid);
  const lock = await takeUpLock(installation);
  if (!lock) throw new Failure('conflict', OTHER_AT_WORK);
  try {
    await afterSupervisor(installation, { all, wasUp: running !== undefined });
  } finally {
    await lock.close();
  }
}

async function afterSupervisor(
  installation: Installation,
  { all, wasUp: wasRunning }: { all: boolean; wasUp: boolean },
) {
  if (all) {
    const { purge } = await import('../up/purge.ts');
    return void process.stdout.write(`${await purge(installation)}\n`);
  }
  // A supervisor that was killed has left everything running.
  const wasUp = wasRunning || (await endOrphans(pidFileOf(installation))) > 0;
  process.stdout.write(
    wasUp ? 'Torpor is down; its sandboxes stay frozen for the next "torpor up".\n' : 'Torpor was not up.\n',
  );
}

async function stopSupervisor(installation: Installation, pid: number): Promise<void> {
  const name = await nameProcess(pid);
  await askStop(installation);
  const until = performance.now() + STOP_MS;
  while (name && (await isRunning(name))) {
    if (performance.now() > until)
      throw new Failure(
        'deadline_exceeded',
        `the supervisor ${pid} did not end within ${STOP_MS / 1000} s (timer "down")`,
      );
    await after(20);
  }
}

async function showStatus(json: boolean): Promise<void> {
  const installation = thisInstallation();
  const status = await askStatus(installation);
  const orphans = status ? [] : await orphansOf(pidFileOf(installation));
  if (!status?.ready) process.exitCode = 1;
  process.stdout.write(json ? `${JSON.stringify(statusForPrograms(status, orphans))}\n` : statusWords(status, orphans));
}

type Orphan = Pick<Child, 'service' | 'pid'>;

function statusForPrograms(status: StackStatus | undefined, orphans: readonly Orphan[]) {
  if (status || orphans.length === 0) return status ?? null;
  return { ready: false, orphans: orphans.map(({ service, pid }) => ({ service, pid })) };
}

/** `orphans` are the services that a killed supervisor left running. */
export function statusWords(status: StackStatus | undefined, orphans: readonly Orphan[]): string {
  if (status) {
    const services = status.services.map(
      ({ name, pid, restarts, healthy }) =>
        `  ${name.padEnd(18)} ${healthy ? 'healthy' : 'NOT HEALTHY'}  pid ${pid ?? '-'}  restarts ${restarts}\n`,
    );
    return `${status.url}  supervisor ${status.pid}  ${status.ready ? 'ready' : 'starting'}\n${services.join('')}`;
  }
  if (orphans.length === 0) return 'Torpor is not up. "torpor up" starts it.\n';
  const left = orphans.map(({ service, pid }) => `  ${service.padEnd(18)} pid ${pid}\n`).join('');
  return `The rooms run without a supervisor; "torpor up" takes over, "torpor down" ends them.\n${left}`;
}
