/** A running stack as a benchmark or a system test sees it: only its launcher, its HTTP doors and what the kernel shows. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { Agent, Pool, request, type Dispatcher } from 'undici';

const exec = promisify(execFile);
export const checkout = resolve(import.meta.dirname, '../../..');

export interface Credentials {
  readonly url: string;
  readonly workspace: string;
  readonly apiKey: string;
}

export interface Stack extends Credentials {
  readonly installation: string;
  readonly stateDir: string;
  readonly scope: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Runs `./torpor …` and answers what it printed on standard output. What it brings up is written down first, for `torpor test` to purge if we cannot. */
export async function torpor(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const { TORPOR_INSTALLATION: name, TORPOR_TEST_BROUGHT_UP: file } = env;
  if ((args[0] === 'up' || args[0] === 'restore') && name && file) await appendFile(file, `${name}\n`);
  const { stdout } = await exec(join(checkout, 'torpor'), [...args], { env, maxBuffer: 64 << 20 });
  return stdout;
}

/** Brings the stack up (or finds it up) and says where it is. */
export async function stackUp(args: readonly string[] = [], env: NodeJS.ProcessEnv = process.env): Promise<Stack> {
  await torpor(['up', '--detach', ...args], env);
  return findStack(env);
}

export async function findStack(env: NodeJS.ProcessEnv = process.env): Promise<Stack> {
  const { installation, stateDir } = whereIs(env);
  const credentials = JSON.parse(await readFile(join(stateDir, 'credentials.json'), 'utf8')) as Credentials; // written by `up`
  return {
    ...credentials,
    installation,
    stateDir,
    scope: sixHex(`${installation}/local`),
    headers: { 'x-blaxel-authorization': `Bearer ${credentials.apiKey}`, 'x-blaxel-workspace': credentials.workspace },
  };
}

/** Where an installation is, or would be. */
export function whereIs(env: NodeJS.ProcessEnv): { installation: string; stateDir: string } {
  const installation = sixHex(env.TORPOR_INSTALLATION ?? checkout);
  return { installation, stateDir: join(env.TORPOR_STATE ?? '/var/lib/torpor', installation) };
}

function sixHex(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 6);
}

/** Points the published `@blaxel/core` at the stack and loads it. Once per process: the SDK keeps its settings. */
export async function loadBlaxel(stack: Stack): Promise<typeof import('@blaxel/core')> {
  Object.assign(process.env, {
    BL_API_URL: `${stack.url}/v0`,
    BL_RUN_URL: stack.url,
    BL_WORKSPACE: stack.workspace,
    BL_API_KEY: stack.apiKey,
    BL_DISABLE_H2: '1',
  });
  return import('@blaxel/core');
}

/** An HTTP client with connections of its own, as a user's program has. */
export function client(url: string, connections = 64): Dispatcher {
  return new Pool(new URL(url).origin, { connections, pipelining: 1, headersTimeout: 120_000, bodyTimeout: 120_000 });
}

export const patient = new Agent({ headersTimeout: 120_000, bodyTimeout: 120_000 });

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
  readonly tookMs: number;
}

/** One request, timed from before it is sent until its last byte is here. */
export async function timed(
  dispatcher: Dispatcher,
  url: string,
  options: { method?: Dispatcher.HttpMethod; headers?: Record<string, string>; body?: string } = {},
): Promise<Answer> {
  const began = performance.now();
  const { statusCode, headers, body } = await request(url, { dispatcher, ...options });
  const bytes = Buffer.from(await body.arrayBuffer());
  return { status: statusCode, headers, body: bytes, tookMs: performance.now() - began };
}

/** As `timed`, and any other status than 2xx is an error that shows the answer. */
export async function expectOk(
  dispatcher: Dispatcher,
  url: string,
  options: Parameters<typeof timed>[2] = {},
): Promise<Answer> {
  const answer = await timed(dispatcher, url, options);
  if (answer.status < 200 || answer.status > 299)
    throw new Error(
      `${options.method ?? 'GET'} ${url} answered ${answer.status}: ${answer.body.toString().slice(0, 500)}`,
    );
  return answer;
}
