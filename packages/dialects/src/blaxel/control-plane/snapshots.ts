/** Snapshots and forks: the bodies that ask for them, and how they are shown. */
import { describeIssues, SandboxName, SnapshotName, type Sandbox, type Snapshot } from '@torpor/contracts';
import { z } from 'zod';
import { accept, refuse, type Parsed } from './refusals.ts';
import { EnvEntry } from './sandbox-body.ts';

const SnapshotBody = z.looseObject({
  name: SnapshotName.nullish(),
  source: z.looseObject({ name: SandboxName, kind: z.literal('sandbox').nullish() }).nullish(),
});

const ForkBody = z.looseObject({
  targetName: SandboxName,
  targetType: z.string().nullish(),
  snapshotId: SnapshotName.nullish(),
  envs: z.array(EnvEntry).max(1000).nullish(),
});

export interface BlaxelSnapshotAsk {
  readonly name?: string;
  /** Whose; in the path where it is absent. */
  readonly source?: SandboxName;
}

export interface BlaxelForkAsk {
  readonly as: SandboxName;
  readonly snapshot?: string;
  readonly env: Readonly<Record<string, string>>;
}

export function parseBlaxelSnapshotAsk(body: unknown): Parsed<BlaxelSnapshotAsk> {
  const parsed = SnapshotBody.safeParse(body ?? {});
  if (!parsed.success) return refuse(400, describeIssues(parsed.error, 'the snapshot'));
  const { name, source } = parsed.data;
  return accept({ ...(name ? { name } : {}), ...(source ? { source: source.name } : {}) });
}

export function parseBlaxelForkAsk(body: unknown): Parsed<BlaxelForkAsk> {
  const parsed = ForkBody.safeParse(body ?? {});
  if (!parsed.success) return refuse(400, describeIssues(parsed.error, 'the fork'));
  const { targetName, targetType, snapshotId, envs } = parsed.data;
  if ((targetType ?? 'sandbox') !== 'sandbox') {
    return refuse(501, `targetType is "${targetType}"; this version of Torpor forks into sandboxes only`);
  }
  const env = Object.fromEntries((envs ?? []).map(({ name, value }) => [name, value ?? '']));
  return accept({ as: targetName, env, ...(snapshotId ? { snapshot: snapshotId } : {}) });
}

const STATUS = { making: 'CREATING', ready: 'READY', failed: 'FAILED' } as const;

export function toBlaxelSnapshot(snapshot: Snapshot, of: Sandbox): Record<string, unknown> {
  const { id, name = id, state, atMs, by } = snapshot;
  return {
    id,
    name,
    status: STATUS[state],
    workspace: of.workspace,
    sandboxName: of.name,
    source: { kind: 'sandbox', name: of.name, deleted: false },
    spec: { image: of.image, memory: of.shape.memoryMib },
    createdAt: new Date(atMs).toISOString(),
    ...(by === undefined ? {} : { createdBy: by }),
  };
}
