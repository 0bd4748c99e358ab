import { sql, type Kysely } from 'kysely';
import { Migrator, type Migration } from 'kysely/migration';
import { grantRooms } from './grants.ts';

/**
 * Brings the schema and the rights on it up to date. Whoever starts first does it, under Kysely's advisory lock; the others wait and find it done.
 * A migration that has shipped is never changed: write the next one.
 */
export async function migrate(db: Kysely<never>): Promise<void> {
  const { error } = await new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } }).migrateToLatest();
  if (error) throw new Error('bringing the database schema up to date', { cause: error });
  await grantRooms(db);
}

/** In their order: who has rows of a database with the same can read them. */
export function migrationNames(): string[] {
  return Object.keys(MIGRATIONS).toSorted();
}

const MIGRATIONS: Record<string, Migration> = {
  '001-beginning': {
    async up(db) {
      for (const statement of BEGINNING) await sql.raw(statement).execute(db);
    },
  },
  '002-retention': {
    async up(db) {
      for (const statement of RETENTION) await sql.raw(statement).execute(db);
    },
  },
  '003-forks': {
    async up(db) {
      await sql.raw(`alter table sandboxes add column origin jsonb`).execute(db);
    },
  },
  '004-wakes': {
    async up(db) {
      await sql`alter table usage_intervals add column wake text check (wake in ('whole', 'lost'))`.execute(db);
    },
  },
  '005-snapshots': {
    async up(db) {
      for (const statement of SNAPSHOTS) await sql.raw(statement).execute(db);
    },
  },
  '006-wake-budgets': {
    async up(db) {
      await sql`alter table workspaces add column wake_budget jsonb`.execute(db);
      await sql`alter table sandboxes add column wake_budget jsonb`.execute(db);
    },
  },
  '007-volumes': {
    async up(db) {
      for (const statement of VOLUMES) await sql.raw(statement).execute(db);
    },
  },
  '008-moves': {
    async up(db) {
      for (const statement of MOVES) await sql.raw(statement).execute(db);
    },
  },
};

const BEGINNING = [
  `create table workspaces (
    name text primary key,
    display_name text not null,
    created_at_ms double precision not null,
    created_by text not null)`,
  `create table api_keys (
    id text primary key,
    prefix text not null unique,
    secret_hash bytea not null,
    name text not null,
    subject text not null,
    role text not null check (role in ('admin', 'member')),
    scopes text[],
    workspace text,
    created_at_ms double precision not null,
    created_by text not null,
    expires_at_ms double precision,
    last_used_at_ms double precision,
    revoked_at_ms double precision)`,
  `create index api_keys_workspace on api_keys (workspace)`,
  `create table sandboxes (
    sequence bigint generated always as identity primary key,
    instance_id text not null unique,
    workspace text not null,
    name text not null,
    generation integer not null,
    node_id text not null,
    phase text not null check (phase in ('creating', 'ready', 'failed', 'terminated')),
    reason text,
    display_name text,
    external_id text,
    labels jsonb not null,
    template text not null,
    image text not null,
    shape jsonb not null,
    ports jsonb not null,
    env_names text[] not null,
    env_sealed text not null,
    idle jsonb not null,
    expiry jsonb not null,
    terminated_retention_ms double precision not null,
    extra jsonb not null,
    created_at_ms double precision not null,
    updated_at_ms double precision not null,
    last_used_at_ms double precision not null,
    first_ready_at_ms double precision,
    terminated_at_ms double precision,
    created_by text not null)`,
  // One sandbox of a name in a workspace, until it is terminated: this index is what makes concurrent creates converge.
  `create unique index sandboxes_one_of_a_name on sandboxes (workspace, name) where phase <> 'terminated'`,
  `create index sandboxes_of_workspace on sandboxes (workspace, created_at_ms, sequence)`,
  `create index sandboxes_external on sandboxes (workspace, external_id) where external_id is not null`,
  `create index sandboxes_on_node on sandboxes (node_id) where phase in ('creating', 'ready')`,
  `create index sandboxes_creating on sandboxes (updated_at_ms) where phase = 'creating'`,
  `create index sandboxes_terminated on sandboxes (terminated_at_ms) where phase = 'terminated'`,
  `create table endings (
    instance_id text not null,
    generation integer not null,
    node_id text not null,
    workspace text not null,
    reason text not null,
    since_ms double precision not null,
    ended_at_ms double precision,
    primary key (instance_id, generation))`,
  `create index endings_open on endings (node_id) where ended_at_ms is null`,
  `create index endings_done on endings (ended_at_ms) where ended_at_ms is not null`,
  `create table previews (
    id text primary key,
    workspace text not null,
    sandbox text not null,
    name text not null,
    port integer not null,
    public boolean not null,
    expires_at_ms double precision,
    extra jsonb not null,
    created_at_ms double precision not null,
    updated_at_ms double precision not null,
    created_by text not null,
    unique (workspace, sandbox, name))`,
  `create table preview_tokens (
    preview_id text not null references previews (id) on delete cascade,
    name text not null,
    hash bytea not null,
    sealed text not null,
    created_at_ms double precision not null,
    expires_at_ms double precision,
    primary key (preview_id, name))`,
  `create table nodes (
    id text primary key,
    url text not null,
    isolation text not null,
    templates text[] not null,
    capacity jsonb not null,
    pool jsonb not null,
    heard_at_ms double precision not null,
    lease_until_ms double precision not null)`,
  `create table usage_intervals (
    instance_id text not null,
    generation integer not null,
    sequence integer not null,
    workspace text not null,
    from_ms double precision not null,
    to_ms double precision not null,
    tier text not null,
    cpu_ms double precision not null,
    memory_mib_ms double precision not null,
    egress_bytes double precision not null,
    disk_mib double precision not null,
    primary key (instance_id, generation, sequence))`,
  `create index usage_of_workspace on usage_intervals (workspace, from_ms)`,
  `create table secrets (
    workspace text not null,
    name text not null,
    sealed text not null,
    updated_at_ms double precision not null,
    updated_by text not null,
    primary key (workspace, name))`,
  `create table audit_log (
    sequence bigint primary key,
    workspace text,
    body text not null,
    hash text not null)`,
  `create index audit_of_workspace on audit_log (workspace, sequence)`,
  `create table idempotency (
    workspace text not null,
    key text not null,
    request_hash text not null,
    answer jsonb,
    claim_until_ms double precision not null,
    expires_at_ms double precision not null,
    primary key (workspace, key))`,
];

const VOLUMES = [
  `create table volumes (
    id text primary key,
    workspace text not null,
    name text not null,
    kind text not null check (kind in ('volume', 'snapshot')),
    size_mib integer not null,
    node_id text not null,
    generation integer not null,
    phase text not null check (phase in ('creating', 'ready', 'deleting')),
    instance_id text,
    sandbox text,
    path text,
    attachment_state text check (attachment_state in ('attaching', 'attached', 'detaching')),
    origin jsonb,
    is_forks boolean not null,
    created_at_ms double precision not null,
    updated_at_ms double precision not null,
    created_by text not null,
    unique (workspace, name),
    check ((instance_id is null) = (attachment_state is null) and (instance_id is null) = (sandbox is null) and (instance_id is null) = (path is null)),
    check (instance_id is null or kind = 'volume'))`,
  `create index volumes_of_instance on volumes (instance_id) where instance_id is not null`,
];

const RETENTION = [
  `create table audit_anchor (
    is_only boolean primary key default true check (is_only),
    sequence bigint not null,
    hash text not null)`,
  // Rows come in the order of time, so that a few pages of a block-range index find the oldest.
  `create index usage_by_time on usage_intervals using brin (to_ms)`,
];

const SNAPSHOTS = [
  `create table snapshots (
    id text primary key,
    workspace text not null,
    instance_id text not null,
    name text,
    sandbox jsonb not null,
    env_sealed text not null,
    at_ms double precision not null,
    bytes double precision,
    made_by text,
    kept_since_ms double precision)`,
  `create index snapshots_of_workspace on snapshots (workspace, at_ms, id)`,
  `create index snapshots_of_instance on snapshots (instance_id)`,
  `alter table endings add column keep text[] not null default '{}'`,
  `alter table sandboxes add column snapshot_limits jsonb`,
];

const MOVES = [
  `create table moves (
    instance_id text primary key,
    generation integer not null,
    next_generation integer not null,
    workspace text not null,
    name text not null,
    from_node text not null,
    to_node text not null,
    reason text not null,
    since_ms double precision not null,
    cancelled text)`,
  `alter table nodes add column draining_since_ms double precision`,
];
