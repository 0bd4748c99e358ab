import { randomBytes } from 'node:crypto';
import type { Dispatcher } from 'undici';
import { api } from './api.ts';
import { expectOk, type Stack } from './stack.ts';

export interface Made {
  readonly name: string;
  readonly url: string;
  readonly hostId: string;
}

const run = randomBytes(3).toString('hex');

/** Makes sandboxes one after another; by default they fall asleep only when told. */
export async function createMany(
  stack: Stack,
  count: number,
  label: string,
  more: Record<string, unknown> = { idle: { kind: 'never' } },
): Promise<Made[]> {
  const made: Made[] = [];
  for (let n = 0; n < count; n++) made.push(await createOne(stack, `${label}-${run}-${n}`, more));
  return made;
}

export async function createOne(stack: Stack, name: string, more: Record<string, unknown> = {}): Promise<Made> {
  const calls = api(stack);
  const made = await calls.create({ name, ...more });
  const hostId = made.hostId ?? (await calls.get(name)).hostId;
  if (hostId === undefined) throw new Error(`nobody says under which name the host knows ${name}`);
  return { name, url: made.url, hostId };
}

export async function deleteMany(stack: Stack, sandboxes: readonly { name: string }[]): Promise<void> {
  const calls = api(stack);
  const queue = [...sandboxes];
  const worker = async () => {
    for (let next = queue.pop(); next; next = queue.pop()) await calls.delete(next.name);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

/** The address of a file in the Blaxel dialect: an absolute path is encoded once, as the SDK does. */
export function fileUrl(stack: Stack, sandbox: { name: string }, path: string): string {
  return `${stack.url}/${stack.workspace}/sandboxes/${sandbox.name}/filesystem/${encodeURIComponent(path)}`;
}

export async function putFile(
  dispatcher: Dispatcher,
  stack: Stack,
  sandbox: { name: string },
  path: string,
  content: string,
): Promise<void> {
  await expectOk(dispatcher, fileUrl(stack, sandbox, path), {
    method: 'PUT',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ content }),
  });
}
