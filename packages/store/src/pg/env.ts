import type { Sealing } from '../sealing.ts';

type Env = Readonly<Record<string, string>>;

/** Bound to workspace and name, not to the incarnation, so that a sandbox keeps its env when it is placed anew. */
export function sealEnv(sealing: Sealing, at: { workspace: string; name: string }, env: Env): string {
  return sealing.seal({ workspace: at.workspace, kind: 'env', name: at.name }, JSON.stringify(env));
}

export function openEnv(sealing: Sealing, row: { workspace: string; name: string; env_sealed: string }): Env {
  const { workspace, name, env_sealed: sealed } = row;
  return JSON.parse(sealing.open({ workspace, kind: 'env', name }, sealed)) as Env; // sealEnv wrote it
}
