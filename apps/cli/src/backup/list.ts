/** What a backup holds: `list.json`, written last, and proven by the passphrase. All other files are named in it, with their sizes and digests. */
import { Generation, InstanceId, Make, NodeId, SandboxName, WorkspaceName } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BackupLock, Hardness } from './lock.ts';

const File = z.object({
  path: z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9_.-]*(\/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$/),
  bytes: z.number().int(),
  sha256: z.string(),
});
export type File = z.infer<typeof File>;

/** Something of which the backup has the row alone, or nothing, and why. */
export const Missing = z.object({
  kind: z.enum(['sandbox', 'volume', 'snapshot']),
  workspace: WorkspaceName,
  name: z.string(),
  /** Of an instance, a volume or a snapshot. */
  id: z.string(),
  reason: z.string(),
});
export type Missing = z.infer<typeof Missing>;

export const List = z.object({
  version: z.literal(1),
  madeAtMs: z.number(),
  installation: z.string(),
  /** Names of the migrations that the tables have the shape of. */
  migrations: z.array(z.string()),
  tables: z.array(z.object({ name: z.string().regex(/^[a-z_]+$/), rows: z.number().int(), file: File })),
  keys: File,
  nodes: z.array(z.object({ id: NodeId, key: z.string(), make: Make })),
  sandboxes: z.array(
    z.object({
      workspace: WorkspaceName,
      name: SandboxName,
      instanceId: InstanceId,
      /** That it was copied as, which may be a later one than its row has. */
      generation: Generation,
      nodeId: NodeId,
      files: z.array(File),
    }),
  ),
  missing: z.array(Missing),
});
export type List = z.infer<typeof List>;

const Sealed = z.object({ hardness: Hardness, list: z.string(), proof: z.string() });

export function sealedList(lock: BackupLock, hardness: Hardness, list: List): string {
  const text = JSON.stringify(list);
  return `${JSON.stringify({ hardness, list: text, proof: lock.prove(text) }, null, 2)}\n`;
}

/** Throws unless the passphrase is the one and every file is what was written. Nothing is changed by looking. */
export async function readBackup(dir: string, passphrase: string): Promise<{ lock: BackupLock; list: List }> {
  const text = await readFile(join(dir, 'list.json'), 'utf8').catch((cause: unknown) => {
    throw new Failure('not_found', `${dir} holds no backup that was finished: ${explain(cause)}`);
  });
  const sealed = Sealed.safeParse(asJson(text));
  if (!sealed.success)
    throw new Failure('unprocessable', `${join(dir, 'list.json')} is no list of a backup, or was cut`);
  const { hardness, list: inner, proof } = sealed.data;
  const lock = await BackupLock.of(passphrase, hardness);
  if (!lock.isProven(inner, proof)) {
    throw new Failure('forbidden', `the passphrase is not the one of the backup in ${dir}, or its list was changed`);
  }
  const list = List.parse(JSON.parse(inner));
  for (const file of filesOf(list)) {
    const found = await digestOf(join(dir, file.path)).catch((error: unknown) => explain(error));
    if (found !== file.sha256) throw new Failure('unprocessable', `${file.path} of the backup is damaged or missing`);
  }
  return { lock, list };
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // as anything else that is no list
  }
}

function filesOf(list: List): File[] {
  return [list.keys, ...list.tables.map(({ file }) => file), ...list.sandboxes.flatMap(({ files }) => files)];
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer); // a stream of a file has no other
  return hash.digest('hex');
}
