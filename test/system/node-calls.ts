/** What a test asks of a node past every door: the calls that rooms make of each other, under the scheduler's own name. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { natsWire } from '@torpor/bus';
import {
  describeInstance,
  Generation,
  InstanceId,
  storeInstance,
  type Call,
  type InstanceReport,
} from '@torpor/contracts';
import { api } from '../bench/lib/api.ts';
import type { Stack } from '../bench/lib/stack.ts';

const NODE = 'local';

/** Puts a sandbox to sleep on the disk, as its node would by itself later. Answers the state that it then is in. */
export async function store(stack: Stack, name: string): Promise<string> {
  const { instanceId, generation } = await api(stack).get(name);
  const which = { instanceId: InstanceId.parse(instanceId), generation: Generation.parse(generation) };
  return (await askNode(stack, storeInstance, which)).state;
}

/** What its node knows of it; asking wakes nobody. */
export async function reportOf(stack: Stack, name: string): Promise<InstanceReport> {
  const { instanceId } = await api(stack).get(name);
  const { instance } = await askNode(stack, describeInstance, { instanceId: InstanceId.parse(instanceId) });
  if (!instance) throw new Error(`the node knows nothing of ${name}`);
  return instance;
}

async function askNode<Request, Reply>(stack: Stack, call: Call<Request, Reply>, body: Request): Promise<Reply> {
  // Both written by `up`.
  const { nats } = (await configured(stack, 'sandbox-scheduler.json')) as { nats: { url: string; user: string } };
  const { natsPassword } = (await configured(stack, 'sandbox-scheduler.secrets.json')) as { natsPassword: string };
  const wire = await natsWire({ ...nats, password: natsPassword, room: 'a system test', onTrouble: () => {} });
  try {
    return await wire.ask(call, body, { node: NODE });
  } finally {
    await wire.close();
  }
}

async function configured({ stateDir }: Stack, name: string): Promise<unknown> {
  return JSON.parse(await readFile(join(stateDir, 'config', name), 'utf8'));
}
