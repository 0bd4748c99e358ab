import type { SandboxName, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely } from 'kysely';
import { hashOfSecret } from '../keys.ts';
import type { SealedPlace, Sealing } from '../sealing.ts';
import type { Preview, PreviewShelf, PreviewToken, PreviewWay } from '../store.ts';
import { previewOf, type SandboxRow } from './rows.ts';
import { wayOf } from './sandbox-shelf.ts';
import type { Tables } from './tables.ts';

export function pgPreviewShelf(db: Kysely<Tables>, sealing: Sealing, workspace: WorkspaceName): PreviewShelf {
  const place = (previewId: string): SealedPlace => ({ workspace, kind: 'preview-token', name: previewId });
  const rows = (sandbox: SandboxName) =>
    db.selectFrom('previews').selectAll().where('workspace', '=', workspace).where('sandbox', '=', sandbox);
  const get = async (sandbox: SandboxName, name: string) => {
    const row = await rows(sandbox).where('name', '=', name).executeTakeFirst();
    return row && previewOf(row);
  };
  const tokens = async (sandbox: SandboxName, name: string): Promise<PreviewToken[]> => {
    const found = await db
      .selectFrom('preview_tokens')
      .innerJoin('previews', 'previews.id', 'preview_tokens.preview_id')
      .selectAll('preview_tokens')
      .where('previews.workspace', '=', workspace)
      .where('previews.sandbox', '=', sandbox)
      .where('previews.name', '=', name)
      .orderBy('preview_tokens.created_at_ms')
      .orderBy('preview_tokens.name')
      .execute();
    return found.map((row) => ({
      name: row.name,
      value: sealing.open(place(row.preview_id), row.sealed),
      createdAtMs: row.created_at_ms,
      ...(row.expires_at_ms === null ? {} : { expiresAtMs: row.expires_at_ms }),
    }));
  };

  return {
    list: async (sandbox) => (await rows(sandbox).orderBy('created_at_ms').orderBy('name').execute()).map(previewOf),
    get,
    create: async (preview) => {
      // The sandbox's row is locked meanwhile, so that a preview cannot outlive a sandbox which is being terminated.
      const { rows: made } = await sql<{ sandboxes: number; inserted: number }>`
        with living as (
          select 1 from sandboxes where workspace = ${workspace} and name = ${preview.sandbox} and phase in ('creating', 'ready') for share),
        inserted as (
          insert into previews (id, workspace, sandbox, name, port, public, expires_at_ms, extra, created_at_ms, updated_at_ms, created_by)
          select ${preview.id}, ${workspace}, ${preview.sandbox}, ${preview.name}, ${preview.port}::int, ${preview.public}::bool,
            ${preview.expiresAtMs ?? null}::float8, ${JSON.stringify(preview.extra)}::jsonb, ${preview.createdAtMs}::float8,
            ${preview.updatedAtMs}::float8, ${preview.createdBy} from living
          on conflict (workspace, sandbox, name) do nothing returning 1)
        select (select count(*) from living) as sandboxes, (select count(*) from inserted) as inserted`.execute(db);
      if (made[0]?.inserted === 1) return { kind: 'created', preview };
      const there = made[0]?.sandboxes === 1 ? await get(preview.sandbox, preview.name) : undefined;
      return there ? { kind: 'taken', preview: there } : { kind: 'no_sandbox' };
    },
    replace: async (preview) => {
      const row = await db
        .updateTable('previews')
        .set({
          port: preview.port,
          public: preview.public,
          expires_at_ms: preview.expiresAtMs ?? null,
          extra: JSON.stringify(preview.extra),
          updated_at_ms: preview.updatedAtMs,
        })
        .where('workspace', '=', workspace)
        .where('sandbox', '=', preview.sandbox)
        .where('name', '=', preview.name)
        .returningAll()
        .executeTakeFirst();
      return row && previewOf(row);
    },
    delete: async (sandbox, name) => {
      const row = await db
        .deleteFrom('previews')
        .where('workspace', '=', workspace)
        .where('sandbox', '=', sandbox)
        .where('name', '=', name)
        .returningAll()
        .executeTakeFirst();
      return row && previewOf(row);
    },
    tokens,
    createToken: async (sandbox, name, token) => {
      const preview = await get(sandbox, name);
      if (!preview) return undefined;
      const values = {
        hash: Buffer.from(hashOfSecret(token.value)),
        sealed: sealing.seal(place(preview.id), token.value),
        created_at_ms: token.createdAtMs,
        expires_at_ms: token.expiresAtMs ?? null,
      };
      await db
        .insertInto('preview_tokens')
        .values({ preview_id: preview.id, name: token.name, ...values })
        .onConflict((taken) => taken.columns(['preview_id', 'name']).doUpdateSet(values))
        .execute();
      return token;
    },
    deleteToken: async (sandbox, name, nameOrValue) => {
      const preview = await get(sandbox, name);
      const token = (await tokens(sandbox, name)).find((one) => one.name === nameOrValue || one.value === nameOrValue);
      if (!preview || !token) return undefined;
      await db
        .deleteFrom('preview_tokens')
        .where('preview_id', '=', preview.id)
        .where('name', '=', token.name)
        .execute();
      return token;
    },
  };
}

export async function findPublicPreview(db: Kysely<Tables>, id: string): Promise<PreviewWay | undefined> {
  const [preview, way, tokens] = await Promise.all([
    db.selectFrom('previews').selectAll().where('id', '=', id).executeTakeFirst(),
    sql<SandboxRow & { node_url: string }>`
      select sandboxes.*, nodes.url as node_url from previews
      join sandboxes on sandboxes.workspace = previews.workspace and sandboxes.name = previews.sandbox and sandboxes.phase = 'ready'
      join nodes on nodes.id = sandboxes.node_id where previews.id = ${id}`.execute(db),
    db.selectFrom('preview_tokens').select(['hash', 'expires_at_ms']).where('preview_id', '=', id).execute(),
  ]);
  if (!preview) return undefined;
  return {
    workspace: preview.workspace as WorkspaceName, // parsed before it was written
    preview: previewOf(preview) satisfies Preview,
    tokens: tokens.map((row) => ({
      hash: row.hash,
      ...(row.expires_at_ms === null ? {} : { expiresAtMs: row.expires_at_ms }),
    })),
    way: way.rows[0] && wayOf(way.rows[0]),
  };
}
