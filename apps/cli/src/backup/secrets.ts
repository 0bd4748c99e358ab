/** What of an installation's own secrets is in its backup, sealed. */
import { Failure } from '@torpor/kernel';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Installation } from '../up/installation.ts';
import { nodesOf } from '../up/nodes.ts';
import { placesOf } from '../up/places.ts';
import { writeWhole } from '../up/write-whole.ts';

const Secrets = z.object({
  /** Files of the supervisor, as they are. */
  keys: z.string(),
  credentials: z.string(),
  /** The keys of the nodes of that machine, base64 by the names of their directories: with them they sign, and seal. */
  nodeKeys: z.record(z.string().regex(/^node(-\d+)?$/), z.string()),
});
export type Secrets = z.infer<typeof Secrets>;

export async function secretsOf(installation: Installation): Promise<string> {
  const read = (name: string) => readFile(join(installation.stateDir, name), 'utf8');
  const nodeKeys: Record<string, string> = {};
  for (const { suffix, stateDir } of nodesOf(installation, await placesOf(installation)))
    nodeKeys[`node${suffix}`] = (await readFile(join(stateDir, 'node.key'))).toString('base64');
  const secrets: Secrets = { keys: await read('keys.json'), credentials: await read('credentials.json'), nodeKeys };
  return JSON.stringify(secrets);
}

export function secretsIn(text: Buffer): Secrets {
  return Secrets.parse(JSON.parse(text.toString()));
}

/** The key of the data plane. */
export function dataKeyIn({ keys }: Secrets): string {
  return z.object({ dataKey: z.string() }).parse(JSON.parse(keys)).dataKey;
}

/** Where there is nothing of an installation yet. Directories get their owners from the start that follows. */
export async function putSecrets(installation: Installation, { keys, nodeKeys }: Secrets): Promise<void> {
  const { node: nodeKey } = nodeKeys;
  if (nodeKey === undefined) throw new Failure('unprocessable', 'the backup has no key of a node');
  await mkdir(join(installation.stateDir, 'node'), { recursive: true });
  await writeWhole(join(installation.stateDir, 'keys.json'), keys, 0o600);
  await writeWhole(join(installation.stateDir, 'node', 'node.key'), Buffer.from(nodeKey, 'base64'), 0o600);
}
