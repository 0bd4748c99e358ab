import type { SandboxName, WorkspaceName } from '@torpor/contracts';
import { hashOfSecret } from '../keys.ts';
import type { Preview, PreviewShelf, PreviewToken, PreviewWay } from '../store.ts';
import type { SandboxRows } from './sandboxes.ts';

interface Row {
  readonly workspace: WorkspaceName;
  preview: Preview;
  tokens: readonly PreviewToken[];
}

export class PreviewRows {
  readonly #rows = new Map<string, Row>();

  shelf(workspace: WorkspaceName, sandboxes: SandboxRows): PreviewShelf {
    const of = (sandbox: SandboxName) =>
      [...this.#rows.values()].filter((row) => row.workspace === workspace && row.preview.sandbox === sandbox);
    const find = (sandbox: SandboxName, name: string) => of(sandbox).find((row) => row.preview.name === name);
    return {
      list: async (sandbox) => of(sandbox).map((row) => row.preview),
      get: async (sandbox, name) => find(sandbox, name)?.preview,
      create: async (preview) => {
        const there = find(preview.sandbox, preview.name);
        if (there) return { kind: 'taken', preview: there.preview };
        if (!(await sandboxes.living(workspace, preview.sandbox))) return { kind: 'no_sandbox' };
        this.#rows.set(preview.id, { workspace, preview, tokens: [] });
        return { kind: 'created', preview };
      },
      replace: async (preview) => {
        const row = find(preview.sandbox, preview.name);
        if (!row) return undefined;
        const { id, createdAtMs, createdBy } = row.preview;
        row.preview = { ...preview, id, createdAtMs, createdBy };
        return row.preview;
      },
      delete: async (sandbox, name) => {
        const row = find(sandbox, name);
        if (row) this.#rows.delete(row.preview.id);
        return row?.preview;
      },
      tokens: async (sandbox, preview) => find(sandbox, preview)?.tokens ?? [],
      createToken: async (sandbox, preview, token) => {
        const row = find(sandbox, preview);
        if (!row) return undefined;
        row.tokens = [...row.tokens.filter((other) => other.name !== token.name), token];
        return token;
      },
      deleteToken: async (sandbox, preview, nameOrValue) => {
        const row = find(sandbox, preview);
        const token = row?.tokens.find(({ name, value }) => name === nameOrValue || value === nameOrValue);
        if (row && token) row.tokens = row.tokens.filter((other) => other !== token);
        return token;
      },
    };
  }

  find(id: string, sandboxes: SandboxRows): PreviewWay | undefined {
    const row = this.#rows.get(id);
    if (!row) return undefined;
    const tokens = row.tokens.map(({ value, expiresAtMs }) => ({
      hash: hashOfSecret(value),
      ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
    }));
    const { workspace, preview } = row;
    return { workspace, preview, tokens, way: sandboxes.way(workspace, preview.sandbox) };
  }

  dropOf(workspace: WorkspaceName, sandbox: SandboxName): void {
    for (const [id, row] of this.#rows) {
      if (row.workspace === workspace && row.preview.sandbox === sandbox) this.#rows.delete(id);
    }
  }
}
