/** Brings a stack up in this process, and what is printed when it stands. */
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { Failure, Lifetime } from '@torpor/kernel';
import { runRead } from '../command.ts';
import { ensureSetup } from '../setup/setup.ts';
import type { Out } from '../setup/progress.ts';
import { accountsOfMachine } from './accounts.ts';
import { askStart, serveControl } from './control.ts';
import { readCredentials, turnedTo, writeCredentials } from './credentials.ts';
import type { Installation } from './installation.ts';
import { keysOf } from './keys.ts';
import { layOut } from './layout.ts';
import { LogFile } from './log-file.ts';
import { nodesOf } from './nodes.ts';
import { placesOf } from './places.ts';
import { ensureRoles } from './database-roles.ts';
import { ensureCluster } from './postgres.ts';
import { bootstrapPlace, localUrlOf, publicUrlOf, servicesOf, type Stack } from './stack.ts';
import type { Settings } from './settings.ts';
import { endOrphans, pidFileOf, Supervisor } from './supervisor.ts';
import { OTHER_AT_WORK, takeUpLock, type UpLock } from './up-lock.ts';

export interface RunningStack {
  readonly url: string;
  /** Ends the services; sandboxes stay, frozen. */
  stop(): Promise<void>;
  /** Resolves when somebody asked over the control socket, or by the signal. */
  readonly stopAsked: Promise<void>;
}

const LOCK_MS = 5_000;
/** Migrations rewrite tables. */
const BOOTSTRAP_MS = 10 * 60_000;

/** Resolves when everything is up. `signal` ends the start as well as the stack. */
export async function startStack(
  installation: Installation,
  settings: Settings,
  {
    out,
    signal,
    afterBootstrap = async () => {},
  }: { out: Out; signal: AbortSignal; /** Before any room starts. */ afterBootstrap?: () => Promise<void> },
): Promise<RunningStack> {
  const lock = await lockAlone(installation);
  const asked = new AbortController();
  const end = AbortSignal.any([signal, asked.signal]);
  const lifetime = new Lifetime();
  lifetime.own('the lock', () => lock.close());
  let supervisor: Supervisor | undefined;
  let ready = false;
  let url = '';
  try {
    const places = await placesOf(installation, settings.nodes);
    url = publicUrlOf({ settings, places });
    const control = await serveControl(installation, {
      start: () => ({ pid: process.pid, url, ready }),
      services: async () => (await supervisor?.status()) ?? [],
      stop: () => asked.abort(new Failure('unavailable', '"torpor down" ended the start')),
    });
    lifetime.own('the control socket', () => control.close());
    const stack = await prepare({ installation, settings, places }, { out, signal: end });
    const log = new LogFile(stack.layout.logFile);
    lifetime.own('the log', () => log.close());
    const kept = new Supervisor(await servicesOf(stack), { log, runDir: installation.runDir });
    supervisor = kept;
    lifetime.own('the services', () => kept.stop());
    end.throwIfAborted();
    end.addEventListener('abort', () => void kept.stop().catch(() => {}), { once: true }); // whoever closes hears of it
    const afterFoundations = async () => {
      await bootstrap(stack, log, end);
      await afterBootstrap();
    };
    await kept.start({ told: told(out), afterFoundations });
    await keepUrls(stack);
    ready = true;
  } catch (error) {
    await lifetime.close();
    throw end.aborted ? end.reason : error;
  }
  const stopAsked = new Promise<void>((resolve) => {
    if (end.aborted) resolve();
    end.addEventListener('abort', () => resolve(), { once: true });
  });
  return { url, stop: () => lifetime.close(), stopAsked };
}

/** A supervisor that has the lock answers at once; `down` gives it back soon. */
async function lockAlone(installation: Installation): Promise<UpLock> {
  const until = performance.now() + LOCK_MS;
  for (;;) {
    const lock = await takeUpLock(installation);
    if (lock) return lock;
    const start = await askStart(installation);
    const how = start?.ready ? 'is up already' : 'is being started already';
    if (start) {
      throw new Failure(
        'conflict',
        `this installation ${how} (supervisor ${start.pid}, ${start.url}); "torpor down" ends it`,
      );
    }
    if (performance.now() > until) throw new Failure('conflict', OTHER_AT_WORK);
    await after(20);
  }
}

async function prepare(
  { installation, settings, places }: Pick<Stack, 'installation' | 'settings' | 'places'>,
  { out, signal }: { out: Out; signal: AbortSignal },
): Promise<Stack> {
  const toolchain = await ensureSetup({ want: ['up'], out, signal });
  // Before anything of theirs is touched: a supervisor that was killed has left them running.
  await endOrphans(pidFileOf(installation));
  const layout = await layOut(installation, await accountsOfMachine(), signal, nodesOf(installation, places));
  const keys = await keysOf(installation);
  if (!settings.databaseUrl) {
    const { roomsDir } = toolchain;
    const cluster = await ensureCluster(layout, { roomsDir, signal });
    await ensureRoles({ installation, layout, keys }, { cluster, roomsDir, signal });
  }
  return { installation, toolchain, places, keys, layout, settings };
}

/**
 * Brings the database to this version's shape and makes the first key. It is a process of its own; when neither the code nor the database have
 * changed since it last ran, there is nothing for it to do and it is not started.
 */
async function bootstrap(stack: Stack, log: LogFile, signal: AbortSignal): Promise<void> {
  const { installation, settings, toolchain } = stack;
  const known = await readCredentials(installation);
  const workspace = settings.workspace ?? known?.workspace ?? 'main';
  const stampFile = join(installation.stateDir, 'bootstrapped');
  const stamp = await sourceHash(
    [join(toolchain.roomsDir, 'packages/store/src'), join(toolchain.roomsDir, 'apps/gateway/src')],
    [workspace, settings.databaseUrl ?? 'own'],
  );
  if (known && (await readFile(stampFile, 'utf8').catch(() => '')) === stamp) return;
  const script = join(toolchain.roomsDir, 'apps/gateway/src/bootstrap.ts');
  const argv = [
    toolchain.node,
    '--disable-warning=ExperimentalWarning',
    script,
    '--workspace',
    workspace,
    '--key-name',
    'first',
  ];
  const { user, env } = await bootstrapPlace(stack);
  const said = await runRead(argv, { user, cwd: '/', env, deadlineMs: BOOTSTRAP_MS, signal });
  const { apiKey } = JSON.parse(said) as { apiKey?: string }; // its documented output
  if (known) await writeCredentials(installation, turnedTo(workspace, known, apiKey));
  else if (apiKey) await writeCredentials(installation, { url: localUrlOf(stack), workspace, apiKey });
  log.event('database ready', { workspace, firstKey: apiKey !== undefined });
  await writeFile(stampFile, stamp);
}

/** The addresses may be others at each start; the keys are not. */
async function keepUrls(stack: Stack): Promise<void> {
  const known = await readCredentials(stack.installation);
  if (!known) return;
  const { publicUrl: _before, ...kept } = known;
  const { publicUrl } = stack.settings;
  const url = localUrlOf(stack);
  await writeCredentials(stack.installation, { ...kept, url, ...(publicUrl === undefined ? {} : { publicUrl }) });
}

async function sourceHash(directories: readonly string[], words: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const word of words) hash.update(word);
  for (const directory of directories) {
    const files = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith('.ts')).sort();
    for (const name of files) hash.update(name).update(await readFile(join(directory, name)));
  }
  return hash.digest('hex');
}

function told(out: Out): (name: string, tookMs: number) => void {
  return (name, tookMs) => void out.write(`          ${name} is up (${(tookMs / 1000).toFixed(2)} s)\n`);
}
