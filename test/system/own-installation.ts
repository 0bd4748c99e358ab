/** An installation of one test file's own, beside the one that all system tests share: it may be killed, starved and purged. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Agent, request } from 'undici';
import { checkout, findStack, torpor, type Stack } from '../bench/lib/stack.ts';

export interface OwnInstallation {
  readonly env: NodeJS.ProcessEnv;
  /** Where failpoints are armed, see apps/node-agent/src/journal/failpoints.ts. */
  readonly failpointsDir: string;
  up(): Promise<Stack>;
  down(): Promise<void>;
  /** What `down --purge` said. */
  purge(): Promise<string>;
  status(): Promise<Status>;
}

export interface Status {
  readonly pid: number;
  readonly ready: boolean;
  readonly services: readonly { name: string; pid?: number; restarts: number; healthy: boolean }[];
}

/** Purges what an earlier run under the same label left. `more` is added to the environment of `torpor`. */
export async function ownInstallation(
  label: string,
  args: readonly string[],
  more: NodeJS.ProcessEnv = {},
): Promise<OwnInstallation> {
  const failpointsDir = await mkdtemp(join(tmpdir(), 'torpor-failpoints-'));
  await chmod(failpointsDir, 0o777); // rooms run as another user, and disarm what they die of
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    TORPOR_INSTALLATION: `${label} of ${checkout}`,
    TORPOR_FAILPOINTS: failpointsDir,
    ...more,
  };
  await torpor(['down', '--purge'], env);
  return {
    env,
    failpointsDir,
    async purge() {
      await rm(failpointsDir, { recursive: true, force: true });
      return torpor(['down', '--purge'], env);
    },
    async up() {
      await torpor(['up', '--detach', ...args], env);
      return findStack(env);
    },
    async down() {
      await torpor(['down'], env);
    },
    status: async () => askSupervisor((await findStack(env)).installation),
  };
}

/** Over its socket: `torpor status --json` says the same, and takes longer than many a recovery. */
async function askSupervisor(installation: string): Promise<Status> {
  const dispatcher = new Agent({ connect: { socketPath: `/run/torpor/up-${installation}/control.sock` } });
  try {
    const { body } = await request('http://supervisor/status', { dispatcher });
    return (await body.json()) as Status; // its documented output
  } finally {
    await dispatcher.close();
  }
}

const exec = promisify(execFile);

/** One more workspace and its first key, made the way `up` makes the first. */
export async function anotherWorkspace(stack: Stack, workspace: string): Promise<Stack> {
  const { stdout } = await exec(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      join(checkout, 'apps/gateway/src/bootstrap.ts'),
      '--workspace',
      workspace,
    ],
    {
      env: {
        ...process.env,
        TORPOR_CONFIG: join(stack.stateDir, 'config/gateway.json'),
        TORPOR_SECRETS: join(stack.stateDir, 'config/gateway.secrets.json'),
      },
    },
  );
  const { apiKey } = JSON.parse(stdout) as { apiKey: string }; // its documented output, for a workspace without a key
  return {
    ...stack,
    workspace,
    apiKey,
    headers: { 'x-blaxel-authorization': `Bearer ${apiKey}`, 'x-blaxel-workspace': workspace },
  };
}
