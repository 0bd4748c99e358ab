/**
 * A backup brought back, as an installation of its own on a machine that has none: its rows are loaded, and then a node that is only a directory is drained.
 * So each sandbox comes by the way of every move: unpacked, read back and compared, and it lives here when a commit says so. All that can be judged is judged
 * before anything is written, and of a restore that fails nothing is left.
 */
import { natsWire, type OpenWire } from '@torpor/bus';
import { drainProgress, leaveInstance, nodeFacts, stayInstance, stopInstance } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { migrationNames } from '@torpor/store';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import type { Client } from 'pg';
import { z } from 'zod';
import { Credentials, readCredentials, writeCredentials } from '../up/credentials.ts';
import type { Installation } from '../up/installation.ts';
import type { Settings } from '../up/settings.ts';
import { OTHER_AT_WORK, takeUpLock } from '../up/up-lock.ts';
import { BACKUP } from './copies.ts';
import { load, withDatabase, type Dump } from './database.ts';
import { Missing, readBackup, type List } from './list.ts';
import type { BackupLock } from './lock.ts';
import { openedWaybill, openOffice, type Office } from './office.ts';
import { reachOf, type Reach } from './reach.ts';
import { dataKeyIn, putSecrets, secretsIn, type Secrets } from './secrets.ts';

const LOOK_MS = 500;
/** In which none has come and none is on its way: drains try again every 15 s. */
const STUCK_MS = 50_000;

export interface Restored {
  readonly sandboxes: number;
  readonly missing: readonly Missing[];
}

interface Backup {
  readonly dir: string;
  readonly lock: BackupLock;
  readonly list: List;
  readonly dump: Dump;
  readonly secrets: Secrets;
}

export async function restore(
  installation: Installation,
  dir: string,
  {
    passphrase,
    settings,
    told,
    signal,
  }: { passphrase: string; settings: Settings; told: (line: string) => void; signal: AbortSignal },
): Promise<Restored> {
  await assertEmpty(installation);
  const backup = await judged(dir, passphrase);
  told(`the passphrase is right, and all ${backup.list.sandboxes.length} sandboxes are whole`);
  try {
    return await bringBack(installation, backup, { settings, told, signal });
  } catch (error) {
    const left = (cause: unknown) => told(`what the restore had begun could not be removed: ${explain(cause)}`);
    await removed(installation).catch(left);
    throw error;
  }
}

async function assertEmpty({ stateDir }: Installation): Promise<void> {
  const found = await readdir(stateDir).catch(() => []); // there is none
  if (found.length === 0) return;
  throw new Failure(
    'conflict',
    `this installation has state in ${stateDir}; a backup is restored where there is none: "torpor down --purge" removes it, another TORPOR_INSTALLATION stands beside it`,
  );
}

/** Throws unless all of it is what was written, opens, and has the shape that this version's tables have. */
async function judged(dir: string, passphrase: string): Promise<Backup> {
  const { lock, list } = await readBackup(dir, passphrase);
  const now = migrationNames();
  if (list.migrations.join() !== now.join()) {
    const more = list.migrations.filter((name) => !now.includes(name));
    const how = more.length > 0 ? `knows ${more.join()}, which this one lacks` : 'is older than this one';
    throw new Failure(
      'conflict',
      `the version of Torpor that made the backup ${how}; restore it with that, and update then`,
    );
  }
  const opened = async (path: string) => lock.open(path, await readFile(join(dir, path)));
  const tables = [];
  for (const { name, file } of list.tables)
    tables.push({ name, rows: z.array(z.string()).parse(JSON.parse((await opened(file.path)).toString())) });
  for (const { instanceId } of list.sandboxes)
    openedWaybill({ lock, list }, instanceId, await readFile(join(dir, 'sandboxes', instanceId, 'waybill')));
  const secrets = secretsIn(await opened(list.keys.path));
  return { dir, lock, list, dump: { migrations: list.migrations, tables }, secrets };
}

async function bringBack(
  installation: Installation,
  { dir, lock, list, dump, secrets }: Backup,
  { settings, told, signal }: { settings: Settings; told: (line: string) => void; signal: AbortSignal },
): Promise<Restored> {
  await putSecrets(installation, secrets);
  const office = await openOffice(dir, { lock, list, dataKey: dataKeyIn(secrets) });
  try {
    const { startStack } = await import('../up/start.ts'); // most of this program's modules, for this command alone
    const stack = await startStack(installation, settings, {
      out: process.stderr,
      signal,
      afterBootstrap: async () => {
        const { databaseUrl } = await reachOf(installation);
        await withDatabase(databaseUrl, (client) => load(client, dump, (db) => asOfTheBackup(db, list, office.url)));
      },
    });
    try {
      const restored = await drained(installation, { list, office }, { told, signal });
      await keepCredentials(installation, Credentials.parse(JSON.parse(secrets.credentials)));
      return restored;
    } finally {
      await stack.stop();
    }
  } finally {
    office.close();
  }
}

async function removed(installation: Installation): Promise<void> {
  const lock = await takeUpLock(installation);
  if (!lock) throw new Failure('conflict', OTHER_AT_WORK);
  try {
    const { purge } = await import('../up/purge.ts');
    await purge(installation);
  } finally {
    await lock.close();
  }
}

/** Its sandboxes live in a node that is the backup, from which they are drained; what it has no copy of is told as what it is. */
async function asOfTheBackup(db: Client, { sandboxes, missing }: List, url: string): Promise<void> {
  const nowMs = Date.now();
  for (const { kind, id, reason } of missing) {
    const why = `it was not in the backup: ${reason}`;
    if (kind === 'sandbox')
      await db.query(
        `update sandboxes set phase = 'failed', reason = $2 where instance_id = $1 and phase <> 'terminated'`,
        [id, why],
      );
    else await db.query(`delete from ${kind === 'volume' ? 'volumes' : 'snapshots'} where id = $1`, [id]);
  }
  for (const { instanceId, generation } of sandboxes) {
    const lives = 'update sandboxes set node_id = $2, generation = $3, updated_at_ms = $4 where instance_id = $1';
    await db.query(lives, [instanceId, BACKUP, generation, nowMs]);
  }
  await db.query(
    `insert into nodes (id, url, isolation, templates, capacity, pool, heard_at_ms, lease_until_ms, draining_since_ms)
     values ($1, $2, 'none', '{}', '{"memoryMib":0,"memoryFreeMib":0,"diskFreeMib":0,"slotsFree":0}', '[]', 0, 0, $3)`,
    [BACKUP, url, nowMs],
  );
}

/** Plays the node that is drained, until nothing lives there any more. */
async function drained(
  installation: Installation,
  { list, office }: { list: List; office: Office },
  { told, signal }: { told: (line: string) => void; signal: AbortSignal },
): Promise<Restored> {
  const reach = await reachOf(installation);
  const wire = await natsWire({ ...reach.bus(`node-${BACKUP}`), room: 'a restore', onTrouble: () => {} });
  const asking = await natsWire({ ...reach.bus('gateway'), room: 'a restore', onTrouble: () => {} });
  const at = { node: BACKUP };
  try {
    const make = list.nodes[0]?.make ?? { isolation: '', templates: {}, cpuFeatures: [] };
    await wire.serve(nodeFacts, async () => ({ make, key: office.key }), at);
    await wire.serve(
      leaveInstance,
      async ({ instanceId, to, key }) => {
        office.destinations.set(instanceId, { to, key });
        return { bytes: 0 };
      },
      at,
    );
    await wire.serve(stayInstance, async () => ({}), at);
    await wire.serve(stopInstance, async () => ({ existed: true }), at);
    return await untilEmpty(reach, { list, asking }, { told, signal });
  } finally {
    await wire.close();
    await asking.close();
  }
}

async function untilEmpty(
  reach: Reach,
  { list, asking }: { list: List; asking: OpenWire },
  { told, signal }: { told: (line: string) => void; signal: AbortSignal },
): Promise<Restored> {
  const all = list.sandboxes.length;
  let whys = new Map<string, string>();
  for (let [here, sinceMs] = [0, performance.now()]; here < all; await after(LOOK_MS, undefined, { signal })) {
    const { moving, troubles } = await asking.ask(drainProgress, { nodeId: BACKUP });
    whys = new Map(troubles.map(({ workspace, name, reason }) => [`${workspace}/${name}`, reason]));
    const left = await withDatabase(reach.databaseUrl, leftIn);
    if (all - left > here || moving > 0) sinceMs = performance.now();
    if (all - left > here) told(`${all - left} of ${all} sandboxes are here`);
    here = all - left;
    if (performance.now() - sinceMs > STUCK_MS) break;
  }
  const stuck = await withDatabase(reach.databaseUrl, (client) => withoutTheBackup(client, whys));
  return { sandboxes: all - stuck.length, missing: [...list.missing, ...stuck] };
}

async function leftIn(client: Client): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'select count(*)::int as count from sandboxes where node_id = $1',
    [BACKUP],
  );
  return rows[0]?.count ?? 0;
}

/** The node that is the backup is no more; what could not come from it is told as failed. */
async function withoutTheBackup(client: Client, whys: ReadonlyMap<string, string>): Promise<Missing[]> {
  const { rows } = await client.query('select workspace, name, instance_id as id from sandboxes where node_id = $1', [
    BACKUP,
  ]);
  const stuck = z
    .array(Missing.pick({ workspace: true, name: true, id: true }))
    .parse(rows)
    .map((row) => ({
      ...row,
      kind: 'sandbox' as const,
      reason: whys.get(`${row.workspace}/${row.name}`) ?? `nothing of it came for ${STUCK_MS / 1000} s`,
    }));
  for (const { id, reason } of stuck) {
    const why = `it could not be brought here from the backup: ${reason}`;
    await client.query(`update sandboxes set phase = 'failed', reason = $2 where instance_id = $1`, [id, why]);
  }
  await client.query('delete from moves where from_node = $1', [BACKUP]);
  await client.query('delete from endings where node_id = $1', [BACKUP]);
  await client.query('delete from nodes where id = $1', [BACKUP]);
  return stuck;
}

/** The keys of then, at the address of now. */
async function keepCredentials(installation: Installation, then: Credentials): Promise<void> {
  const now = await readCredentials(installation);
  await writeCredentials(installation, { ...then, url: now?.url ?? then.url });
}
