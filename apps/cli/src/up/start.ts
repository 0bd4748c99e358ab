/** Brings a stack up in this process, and what is printed when it stands. */
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '@torpor/kernel';
import { ensureSetup } from '../setup/setup.ts';
import type { Out } from '../setup/progress.ts';
import { askStatus, serveControl, type StackStatus } from './control.ts';
import { readCredentials, writeCredentials } from './credentials.ts';
import type { Installation } from './installation.ts';
import { keysOf } from './keys.ts';
import { idsOf, layOut, run } from './layout.ts';
import { LogFile } from './log-file.ts';
import { placesOf } from './places.ts';
import { ensureCluster } from './postgres.ts';
import { gatewayFiles, publicUrlOf, roomEnv, servicesOf, type Stack } from './stack.ts';
import type { Settings } from './settings.ts';
import { Supervisor } from './supervisor.ts';

export interface RunningStack {
  readonly url: string;
  /** Ends the services; sandboxes stay, frozen. */
  stop(): Promise<void>;
  /** Resolves when somebody asked over the control socket. */
  readonly stopAsked: Promise<void>;
}

export async function startStack(installation: Installation, settings: Settings, out: Out): Promise<RunningStack> {
  const already = await askStatus(installation);
  if (already)
    throw new Failure(
      'conflict',
      `this installation is up already (supervisor ${already.pid}, ${already.url}); "torpor down" ends it`,
    );
  const stack = await prepare(installation, settings, out);
  const log = new LogFile(stack.layout.logFile);
  const services = await servicesOf(stack);
  const supervisor = new Supervisor(services, { log, runDir: installation.runDir });
  let askToStop: () => void = () => {};
  const stopAsked = new Promise<void>((resolve) => {
    askToStop = resolve;
  });
  const url = publicUrlOf(stack);
  let ready = false;
  const status = async (): Promise<StackStatus> => ({
    pid: process.pid,
    url,
    ready,
    services: await supervisor.status(),
  });
  const control = await serveControl(installation, { status, stop: askToStop });
  const stop = async () => {
    await supervisor.stop();
    await control.close();
    await log.close();
  };
  try {
    await supervisor.start({ told: told(out), afterFoundations: () => bootstrap(stack, log) });
  } catch (error) {
    await stop();
    throw error;
  }
  ready = true;
  return { url, stop, stopAsked };
}

async function prepare(installation: Installation, settings: Settings, out: Out): Promise<Stack> {
  const toolchain = await ensureSetup({ want: ['up'], out });
  const layout = await layOut(installation, await idsOf(toolchain.roomsUser));
  const keys = await keysOf(installation);
  const places = await placesOf(installation);
  if (!settings.databaseUrl) await ensureCluster(layout, keys, toolchain.roomsDir);
  return { installation, toolchain, places, keys, layout, settings };
}

/**
 * Brings the database to this version's shape and makes the first key. It is a process of its own; when neither the code nor the database have
 * changed since it last ran, there is nothing for it to do and it is not started.
 */
async function bootstrap(stack: Stack, log: LogFile): Promise<void> {
  const stampFile = join(stack.installation.stateDir, 'bootstrapped');
  const stamp = await sourceHash(
    [join(stack.toolchain.roomsDir, 'packages/store/src'), join(stack.toolchain.roomsDir, 'apps/gateway/src')],
    stack,
  );
  if ((await readFile(stampFile, 'utf8').catch(() => '')) === stamp && (await readCredentials(stack.installation)))
    return;
  const { config, secrets } = gatewayFiles(stack);
  const script = join(stack.toolchain.roomsDir, 'apps/gateway/src/bootstrap.ts');
  const args = [
    '--disable-warning=ExperimentalWarning',
    script,
    '--workspace',
    stack.settings.workspace,
    '--key-name',
    'first',
  ];
  const env = await roomEnv(stack, 'bootstrap', config, secrets);
  const answer = JSON.parse(await run(stack.toolchain.node, args, { user: stack.layout.user, env })) as {
    workspace: string;
    apiKey?: string;
  }; // its documented output
  if (answer.apiKey)
    await writeCredentials(stack.installation, {
      url: publicUrlOf(stack),
      workspace: answer.workspace,
      apiKey: answer.apiKey,
    });
  log.event('database ready', { workspace: answer.workspace, firstKey: answer.apiKey !== undefined });
  await writeFile(stampFile, stamp);
}

async function sourceHash(directories: readonly string[], { settings }: Stack): Promise<string> {
  const hash = createHash('sha256')
    .update(settings.workspace)
    .update(settings.databaseUrl ?? 'own');
  for (const directory of directories) {
    const files = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith('.ts')).sort();
    for (const name of files) hash.update(name).update(await readFile(join(directory, name)));
  }
  return hash.digest('hex');
}

function told(out: Out): (name: string, tookMs: number) => void {
  return (name, tookMs) => void out.write(`          ${name} is up (${(tookMs / 1000).toFixed(2)} s)\n`);
}
