/**
 * The snapshots that somebody asked for: made on the node of their sandbox, and put on record, so that a delete can leave them. Those that a node makes by
 * itself are its own affair, and end with their sandbox.
 */
import {
  deleteSnapshot,
  makeSnapshot,
  type dropSnapshot,
  type Generation,
  type InstanceId,
  type NodeId,
  type Sandbox,
  type Snapshot,
  type snapshotSandbox,
} from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import type { SnapshotRecord } from '@torpor/store';
import type { z } from 'zod';
import type { Parts } from '../parts.ts';

/** Where a snapshot lies. */
interface Place {
  readonly instanceId: InstanceId;
  readonly generation: Generation;
  readonly nodeId: NodeId;
}

export async function snapshotOf(
  parts: Parts,
  { workspace, name, snapshot: called, by }: z.infer<typeof snapshotSandbox.request>,
  traceparent: string,
): Promise<Snapshot> {
  const { store, wire, closing } = parts;
  const sandbox = await store.wanted.living(workspace, name);
  if (!sandbox) throw noSandbox(workspace, name);
  const { instanceId, generation, nodeId } = sandbox;
  const ask = {
    instanceId,
    generation,
    because: 'asked' as const,
    by,
    ...(called === undefined ? {} : { name: called }),
  };
  const { snapshot } = await wire.ask(makeSnapshot, ask, { node: nodeId, signal: closing, traceparent });
  if (await store.snapshots.put(recordOf(snapshot, sandbox))) return snapshot;
  throw new Failure('conflict', `the sandbox "${name}" was ended or restarted while its snapshot was made`);
}

/** Gone from the node first: a record of what is not there is found out, a snapshot without a record would be nobody's. */
export async function dropOf(
  parts: Parts,
  { workspace, name, snapshot }: z.infer<typeof dropSnapshot.request>,
  traceparent: string,
): Promise<Snapshot> {
  const { store } = parts;
  const record = await store.snapshots.find(workspace, snapshot);
  const sandbox = name === undefined ? undefined : await store.wanted.living(workspace, name);
  if (name !== undefined && !sandbox) throw noSandbox(workspace, name);
  const mine = record && (name ?? record.sandbox.name) === record.sandbox.name ? record : undefined;
  const place = mine?.sandbox ?? sandbox; // the record may be of an incarnation that has ended since
  if (!place) throw new Failure('not_found', `there is no snapshot "${snapshot}" in workspace "${workspace}"`);
  const gone = await goneFromNode(parts, await placeNow(parts, place), snapshot, traceparent);
  const id = gone?.id ?? mine?.id;
  const dropped = id === undefined ? undefined : await store.snapshots.drop(workspace, id);
  if (gone) return gone;
  if (dropped) return asSnapshot(dropped);
  throw new Failure('not_found', `the sandbox "${place.name}" has no snapshot "${snapshot}"`);
}

/** A sandbox that is still there, failed or not, may have a greater generation now than when its snapshot was made. */
export async function placeNow({ store, clock }: Parts, { workspace, name, ...then }: Sandbox): Promise<Place> {
  const now = await store.workspace(workspace).sandboxes.get(name, clock.nowMs());
  return now?.instanceId === then.instanceId ? now : then;
}

/** Undefined: it was not there. A node that holds the instance otherwise than the record says has not looked, and may be asked again. */
async function goneFromNode(
  { wire, closing, events }: Parts,
  { instanceId, generation, nodeId }: Place,
  snapshot: string,
  traceparent: string,
): Promise<Snapshot | undefined> {
  try {
    const options = { node: nodeId, signal: closing, traceparent };
    return (await wire.ask(deleteSnapshot, { instanceId, generation, snapshot }, options)).snapshot;
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'not_found')) throw error;
    events.trouble('delete of a snapshot', explain(error));
    return undefined;
  }
}

export function asSnapshot({ id, name, atMs, bytes, by }: SnapshotRecord): Snapshot {
  return {
    id,
    because: 'asked',
    state: 'ready',
    atMs,
    ...(name === undefined ? {} : { name }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(by === undefined ? {} : { by }),
  };
}

function recordOf({ id, name, atMs, bytes, by }: Snapshot, sandbox: Sandbox): SnapshotRecord {
  return {
    id,
    atMs,
    sandbox,
    ...(name === undefined ? {} : { name }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(by === undefined ? {} : { by }),
  };
}

function noSandbox(workspace: string, name: string): Failure {
  return new Failure('not_found', `there is no sandbox "${name}" in workspace "${workspace}"`);
}
