/** The tables as Kysely sees them. Times are double precision ms since the epoch: exact, and numbers on both sides. */
import type { Generated, JSONColumnType } from 'kysely';

type Json<T extends object> = JSONColumnType<T, string, string>;

export interface Tables {
  workspaces: {
    name: string;
    display_name: string;
    created_at_ms: number;
    created_by: string;
    wake_budget: Json<object> | null;
  };
  api_keys: {
    id: string;
    prefix: string;
    secret_hash: Buffer;
    name: string;
    subject: string;
    role: 'admin' | 'member';
    scopes: string[] | null;
    /** Null: personal. */
    workspace: string | null;
    created_at_ms: number;
    created_by: string;
    expires_at_ms: number | null;
    last_used_at_ms: number | null;
    revoked_at_ms: number | null;
  };
  sandboxes: SandboxTable;
  endings: {
    instance_id: string;
    generation: number;
    node_id: string;
    workspace: string;
    reason: string;
    since_ms: number;
    ended_at_ms: number | null;
    keep: Generated<string[]>;
  };
  snapshots: {
    id: string;
    workspace: string;
    instance_id: string;
    name: string | null;
    sandbox: Json<object>;
    env_sealed: string;
    at_ms: number;
    bytes: number | null;
    made_by: string | null;
    kept_since_ms: number | null;
  };
  previews: {
    id: string;
    workspace: string;
    sandbox: string;
    name: string;
    port: number;
    public: boolean;
    expires_at_ms: number | null;
    extra: Json<Record<string, unknown>>;
    created_at_ms: number;
    updated_at_ms: number;
    created_by: string;
  };
  preview_tokens: {
    preview_id: string;
    name: string;
    hash: Buffer;
    sealed: string;
    created_at_ms: number;
    expires_at_ms: number | null;
  };
  nodes: {
    id: string;
    url: string;
    isolation: string;
    templates: string[];
    capacity: Json<object>;
    pool: Json<object[]>;
    heard_at_ms: number;
    lease_until_ms: number;
    draining_since_ms: Generated<number | null>;
  };
  moves: {
    instance_id: string;
    generation: number;
    next_generation: number;
    workspace: string;
    name: string;
    from_node: string;
    to_node: string;
    reason: string;
    since_ms: number;
    cancelled: string | null;
  };
  usage_intervals: {
    instance_id: string;
    generation: number;
    sequence: number;
    workspace: string;
    from_ms: number;
    to_ms: number;
    tier: 'running' | 'paused' | 'stored' | 'volume';
    cpu_ms: number;
    memory_mib_ms: number;
    egress_bytes: number;
    disk_mib: number;
    wake: 'whole' | 'lost' | null;
  };
  volumes: VolumeTable;
  secrets: { workspace: string; name: string; sealed: string; updated_at_ms: number; updated_by: string };
  audit_log: { sequence: number; workspace: string | null; body: string; hash: string };
  /** One row at most: the last link that was cut off the log's beginning. */
  audit_anchor: { is_only: Generated<boolean>; sequence: number; hash: string };
  idempotency: {
    workspace: string;
    key: string;
    request_hash: string;
    answer: Json<{ answer: unknown }> | null;
    claim_until_ms: number;
    expires_at_ms: number;
  };
}

export interface VolumeTable {
  id: string;
  workspace: string;
  name: string;
  kind: 'volume' | 'snapshot';
  size_mib: number;
  node_id: string;
  generation: number;
  phase: 'creating' | 'ready' | 'deleting';
  /** Null, with the three that follow: attached nowhere. */
  instance_id: string | null;
  sandbox: string | null;
  path: string | null;
  attachment_state: 'attaching' | 'attached' | 'detaching' | null;
  origin: Json<object> | null;
  is_forks: boolean;
  created_at_ms: number;
  updated_at_ms: number;
  created_by: string;
}

export interface SandboxTable {
  /** Orders rows that share a time; never shown. */
  sequence: Generated<number>;
  instance_id: string;
  workspace: string;
  name: string;
  generation: number;
  node_id: string;
  phase: 'creating' | 'ready' | 'failed' | 'terminated';
  reason: string | null;
  display_name: string | null;
  external_id: string | null;
  labels: Json<Record<string, string>>;
  origin: Json<object> | null;
  template: string;
  image: string;
  shape: Json<object>;
  ports: Json<object[]>;
  env_names: string[];
  env_sealed: string;
  idle: Json<object>;
  snapshot_limits: Json<object> | null;
  wake_budget: Json<object> | null;
  expiry: Json<object>;
  terminated_retention_ms: number;
  extra: Json<Record<string, unknown>>;
  created_at_ms: number;
  updated_at_ms: number;
  last_used_at_ms: number;
  first_ready_at_ms: number | null;
  terminated_at_ms: number | null;
  created_by: string;
}
