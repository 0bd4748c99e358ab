/** Rows as PostgreSQL gives them, and the objects that they stand for. Rows were parsed before they were written; here they are only renamed. */
import type {
  Generation,
  InstanceId,
  NodeId,
  Sandbox,
  SandboxName,
  Volume,
  VolumeId,
  VolumeName,
  WakeBudget,
  WorkspaceName,
} from '@torpor/contracts';
import type { Selectable } from 'kysely';
import type { ApiKey } from '../keys.ts';
import type { Ending, Holding, NodeRecord, Preview } from '../store.ts';
import type { SandboxTable, Tables, VolumeTable } from './tables.ts';

export type SandboxRow = Selectable<SandboxTable>;

export function sandboxOf(row: SandboxRow): Sandbox {
  return {
    instanceId: row.instance_id as InstanceId, // this and the brands below were parsed before they were written
    workspace: row.workspace as WorkspaceName,
    name: row.name as SandboxName,
    generation: row.generation as Generation,
    nodeId: row.node_id as NodeId,
    phase: row.phase,
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.display_name === null ? {} : { displayName: row.display_name }),
    ...(row.external_id === null ? {} : { externalId: row.external_id }),
    labels: row.labels,
    ...(row.origin === null ? {} : { origin: row.origin as NonNullable<Sandbox['origin']> }),
    template: row.template,
    image: row.image,
    shape: row.shape as Sandbox['shape'],
    ports: row.ports as Sandbox['ports'],
    envNames: row.env_names,
    idle: row.idle as Sandbox['idle'],
    ...(row.snapshot_limits === null
      ? {}
      : { snapshotLimits: row.snapshot_limits as NonNullable<Sandbox['snapshotLimits']> }),
    ...(row.wake_budget === null ? {} : { wakeBudget: row.wake_budget as WakeBudget }),
    expiry: row.expiry as Sandbox['expiry'],
    terminatedRetentionMs: row.terminated_retention_ms,
    extra: row.extra,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    lastUsedAtMs: row.last_used_at_ms,
    ...(row.terminated_at_ms === null ? {} : { terminatedAtMs: row.terminated_at_ms }),
    createdBy: row.created_by,
  };
}

export function volumeOf(row: Selectable<VolumeTable>): Volume {
  const { instance_id, sandbox, path, attachment_state: state } = row;
  const attachment =
    instance_id !== null && sandbox !== null && path !== null && state !== null
      ? { instanceId: instance_id as InstanceId, sandbox: sandbox as SandboxName, path, state } // as below
      : undefined;
  return {
    id: row.id as VolumeId, // this and the brands below were parsed before they were written
    workspace: row.workspace as WorkspaceName,
    name: row.name as VolumeName,
    kind: row.kind,
    sizeMib: row.size_mib,
    nodeId: row.node_id as NodeId,
    generation: row.generation as Generation,
    phase: row.phase,
    ...(attachment ? { attachment } : {}),
    ...(row.origin === null ? {} : { origin: row.origin as NonNullable<Volume['origin']> }),
    ...(row.is_forks ? { isForks: true } : {}),
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    createdBy: row.created_by,
  };
}

type HoldingColumns =
  | 'instance_id'
  | 'generation'
  | 'node_id'
  | 'workspace'
  | 'name'
  | 'phase'
  | 'idle'
  | 'wake_budget'
  | 'expiry'
  | 'last_used_at_ms';

export function holdingOf(row: Pick<SandboxRow, HoldingColumns> & { memory_mib: number }): Holding {
  return {
    instanceId: row.instance_id as InstanceId, // this and the brands below were parsed before they were written
    generation: row.generation as Generation,
    nodeId: row.node_id as NodeId,
    workspace: row.workspace as WorkspaceName,
    name: row.name as SandboxName,
    phase: row.phase,
    idle: row.idle as Holding['idle'],
    ...(row.wake_budget === null ? {} : { wakeBudget: row.wake_budget as WakeBudget }),
    expiry: row.expiry as Holding['expiry'],
    lastUsedAtMs: row.last_used_at_ms,
    memoryMib: row.memory_mib,
  };
}

export function keyOf(row: Selectable<Tables['api_keys']>): ApiKey {
  return {
    id: row.id,
    prefix: row.prefix,
    name: row.name,
    subject: row.subject,
    role: row.role,
    ...(row.scopes === null ? {} : { scopes: row.scopes }),
    ...(row.workspace === null ? {} : { workspace: row.workspace as WorkspaceName }), // parsed before it was written
    createdAtMs: row.created_at_ms,
    createdBy: row.created_by,
    ...(row.expires_at_ms === null ? {} : { expiresAtMs: row.expires_at_ms }),
    ...(row.last_used_at_ms === null ? {} : { lastUsedAtMs: row.last_used_at_ms }),
    ...(row.revoked_at_ms === null ? {} : { revokedAtMs: row.revoked_at_ms }),
  };
}

export function previewOf(row: Selectable<Tables['previews']>): Preview {
  return {
    id: row.id,
    sandbox: row.sandbox as SandboxName, // parsed before it was written
    name: row.name,
    port: row.port,
    public: row.public,
    ...(row.expires_at_ms === null ? {} : { expiresAtMs: row.expires_at_ms }),
    extra: row.extra,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    createdBy: row.created_by,
  };
}

export function nodeOf(row: Selectable<Tables['nodes']>): NodeRecord {
  return {
    id: row.id as NodeId, // this and the shapes below were parsed before they were written
    url: row.url,
    isolation: row.isolation as NodeRecord['isolation'],
    templates: row.templates,
    capacity: row.capacity as NodeRecord['capacity'],
    pool: row.pool as NodeRecord['pool'],
    heardAtMs: row.heard_at_ms,
    leaseUntilMs: row.lease_until_ms,
    ...(row.draining_since_ms === null ? {} : { drainingSinceMs: row.draining_since_ms }),
  };
}

export function endingOf(row: Selectable<Tables['endings']>): Ending {
  return {
    instanceId: row.instance_id as InstanceId, // this and the brands below were parsed before they were written
    generation: row.generation as Generation,
    nodeId: row.node_id as NodeId,
    workspace: row.workspace as WorkspaceName,
    reason: row.reason,
    sinceMs: row.since_ms,
    ...(row.keep.length === 0 ? {} : { keep: row.keep }),
    ...(row.ended_at_ms === null ? {} : { endedAtMs: row.ended_at_ms }),
  };
}
