/**
 * A backup of a whole installation, while it is up: its keys, its tables as of one moment, and a copy of each sandbox: memory, processes, files and
 * snapshots, as of a moment soon after. What cannot be in it is named in its list, and told.
 */
import { natsWire } from '@torpor/bus';
import { Generation, InstanceId, NodeId, nodeFacts, SandboxName, WorkspaceName } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { createHash } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Client } from 'pg';
import { z } from 'zod';
import { askStart } from '../up/control.ts';
import type { Installation } from '../up/installation.ts';
import { writeWhole } from '../up/write-whole.ts';
import { copyOf, type Around } from './copies.ts';
import { dump, withDatabase } from './database.ts';
import { BackupLock, freshHardness } from './lock.ts';
import { sealedList, type File, type List, type Missing } from './list.ts';
import { reachOf, type Reach } from './reach.ts';
import { secretsOf } from './secrets.ts';

const SandboxRow = z.object({
  workspace: WorkspaceName,
  name: SandboxName,
  instance_id: InstanceId,
  generation: Generation,
  node_id: NodeId,
  phase: z.string(),
});
type SandboxRow = z.infer<typeof SandboxRow>;
const NodeRow = z.object({ id: NodeId, url: z.string() });
const MissingRow = z.object({ workspace: WorkspaceName, name: z.string(), id: z.string() });

/** Of a sandbox that does something else, or becomes another incarnation, while it is to be copied. */
const ATTEMPTS = 3;

export async function backUp(
  installation: Installation,
  dir: string,
  { passphrase, told, signal }: { passphrase: string; told: (line: string) => void; signal: AbortSignal },
): Promise<List> {
  if (!(await askStart(installation))?.ready)
    throw new Failure('unavailable', 'this installation is not up; "torpor up" starts it');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if ((await readdir(dir)).length > 0)
    throw new Failure('conflict', `${dir} is not empty; a backup takes a directory of its own`);
  const hardness = freshHardness();
  const lock = await BackupLock.of(passphrase, hardness);
  const reach = await reachOf(installation);
  const { tables, migrations, also } = await withDatabase(reach.databaseUrl, (client) => dump(client, inventory));
  const sealed = (path: string, plain: string) => put(dir, path, lock.seal(path, Buffer.from(plain)));
  const list: List = {
    version: 1,
    madeAtMs: Date.now(),
    installation: installation.name,
    migrations: [...migrations],
    tables: [],
    keys: await sealed('keys', await secretsOf(installation)),
    nodes: [],
    sandboxes: [],
    missing: also.missing,
  };
  for (const { name, rows } of tables)
    list.tables.push({ name, rows: rows.length, file: await sealed(`tables/${name}`, JSON.stringify(rows)) });
  const wire = await natsWire({ ...reach.bus('scheduler'), room: 'a backup', onTrouble: () => {} });
  try {
    const around = { wire, lock, dir, dataKey: reach.dataKey, told, signal };
    for (const row of also.sandboxes) await addCopy(list, row, { around, reach });
  } finally {
    await wire.close();
  }
  for (const { kind, workspace, name, reason } of list.missing)
    told(`${kind} ${workspace}/${name} is not in it: ${reason}`);
  await writeWhole(join(dir, 'list.json'), sealedList(lock, hardness, list), 0o600);
  return list;
}

/** Of the moment of the tables: which sandboxes are to be copied, and what there is of which there can be no copy. */
async function inventory(client: Client): Promise<{ sandboxes: SandboxRow[]; missing: Missing[] }> {
  const rows = await client.query(`select * from sandboxes where phase <> 'terminated' order by workspace, name`);
  const all = z.array(SandboxRow).parse(rows.rows);
  const volumes = await client.query('select workspace, name, id from volumes');
  const kept = await client.query(
    'select workspace, coalesce(name, id) as name, id from snapshots where kept_since_ms is not null',
  );
  const as = (kind: Missing['kind'], found: unknown[], reason: string) =>
    z
      .array(MissingRow)
      .parse(found)
      .map((row) => ({ kind, ...row, reason }));
  const unready = all.filter(({ phase }) => phase !== 'ready').map((row) => ({ ...row, id: row.instance_id }));
  return {
    sandboxes: all.filter(({ phase }) => phase === 'ready'),
    missing: [
      ...as('sandbox', unready, 'it is not ready, so nothing is known of it but its row'),
      ...as('volume', volumes.rows, 'volumes are not backed up yet'),
      ...as('snapshot', kept.rows, 'its sandbox is no more, and only what sandboxes have is backed up yet'),
    ],
  };
}

async function put(dir: string, path: string, bytes: Buffer): Promise<File> {
  await mkdir(dirname(join(dir, path)), { recursive: true, mode: 0o700 });
  await writeWhole(join(dir, path), bytes, 0o600);
  return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** Or says in the list why there is none. Throws when it is the backup itself that cannot go on. */
async function addCopy(
  list: List,
  row: SandboxRow,
  { around, reach }: { around: Around; reach: Reach },
): Promise<void> {
  const { workspace, name, instance_id: instanceId } = row;
  const { told, signal } = around;
  for (let attempt = 1; ; attempt++) {
    try {
      const now = await withDatabase(reach.databaseUrl, (client) => whereIs(client, instanceId));
      if (!now) throw new Failure('gone', 'it was ended while the backup was made');
      const key = await keyOf(list, around, now.nodeId);
      const files = await copyOf(around, { instanceId, ...now, key });
      list.sandboxes.push({ workspace, name, instanceId, generation: now.generation, nodeId: now.nodeId, files });
      told(`${workspace}/${name}: ${files.length} files, ${files.reduce((sum, { bytes }) => sum + bytes, 0)} bytes`);
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (isOfOurDisk(error)) throw error;
      const mayPass = error instanceof Failure && (error.retryable || error.code === 'misdirected');
      if (mayPass && attempt < ATTEMPTS) continue;
      list.missing.push({ kind: 'sandbox', workspace, name, id: instanceId, reason: explain(error) });
      return;
    }
  }
}

async function whereIs(client: Client, instanceId: InstanceId) {
  const ready = `select * from sandboxes where instance_id = $1 and phase = 'ready'`;
  const [row] = z.array(SandboxRow).parse((await client.query(ready, [instanceId])).rows);
  if (!row) return undefined;
  const nodes = await client.query('select id, url from nodes where id = $1', [row.node_id]);
  const [node] = z.array(NodeRow).parse(nodes.rows);
  return node && { generation: row.generation, nodeId: node.id, url: node.url };
}

/** What that node seals its waybills by. */
async function keyOf(list: List, { wire }: Around, id: NodeId): Promise<string> {
  const known = list.nodes.find((node) => node.id === id);
  if (known) return known.key;
  const facts = await wire.ask(nodeFacts, {}, { node: id });
  list.nodes.push({ id, ...facts });
  return facts.key;
}

/** Where the backup goes: the next sandbox would fare no better. */
function isOfOurDisk(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES'].some((one) => one === code);
}
