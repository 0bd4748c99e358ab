import { isAsleep, type InstanceReport, type Sandbox } from '@torpor/contracts';
import { expiryOf } from '@torpor/policy';
import { readExtra } from './sandbox-body.ts';

export interface ViewContext {
  /** Base of the URLs we hand out, without a trailing slash. */
  readonly publicUrl: string;
  readonly nowMs: number;
  /** What the node last said of the instance; absent when nobody knows. */
  readonly instance?: Pick<InstanceReport, 'state' | 'lastUsedAtMs' | 'storeAsked' | 'imageBytes' | 'imageAtMs'>;
  /** The environment as the store keeps it. Absent: names are shown without values. */
  readonly env?: Readonly<Record<string, string>>;
  /** `?show_secrets=true` by a caller who may. */
  readonly showSecrets?: boolean;
}

export type BlaxelStatus = 'DEPLOYING' | 'DEPLOYED' | 'FAILED' | 'TERMINATED';

/** How a sandbox stands now: by what is recorded, and by its limits at this moment. */
export type Standing =
  | { readonly kind: 'living'; readonly status: BlaxelStatus; readonly endsAtMs?: number }
  /** `readable`: its record may still be shown. */
  | {
      readonly kind: 'ended';
      readonly status: 'TERMINATED';
      readonly atMs: number;
      readonly because: string;
      readonly readable: boolean;
    };

/** An instance that the node used later than the row says counts by the node. */
export function standingOf(sandbox: Sandbox, nowMs: number, lastUsedAtMs = sandbox.lastUsedAtMs): Standing {
  const ended = (atMs: number, because: string): Standing => ({
    kind: 'ended',
    status: 'TERMINATED',
    atMs,
    because,
    readable: nowMs < atMs + sandbox.terminatedRetentionMs,
  });
  if (sandbox.phase === 'terminated')
    return ended(sandbox.terminatedAtMs ?? sandbox.updatedAtMs, sandbox.reason ?? 'deleted');
  if (sandbox.phase === 'failed') return { kind: 'living', status: 'FAILED' };
  const life = expiryOf({ ...sandbox, lastUsedAtMs: Math.max(lastUsedAtMs, sandbox.lastUsedAtMs) }, nowMs);
  if (life.kind === 'expired') return ended(life.atMs, `expired: ${life.because}`);
  const status = sandbox.phase === 'creating' ? 'DEPLOYING' : 'DEPLOYED';
  return { kind: 'living', status, ...(life.endsAtMs === undefined ? {} : { endsAtMs: life.endsAtMs }) };
}

/** The sandbox as Blaxel's clients know it. `metadata.url` is the base of its data plane. */
export function toBlaxelSandbox(sandbox: Sandbox, context: ViewContext): Record<string, unknown> {
  const lastUsedAtMs = Math.max(sandbox.lastUsedAtMs, context.instance?.lastUsedAtMs ?? 0);
  const standing = standingOf(sandbox, context.nowMs, lastUsedAtMs);
  const kept = readExtra(sandbox.extra);
  const archive = standing.status === 'DEPLOYED' ? archiveStatusOf(context.instance) : undefined;
  return {
    metadata: { ...kept.metadata, ...metadataOf(sandbox, context.publicUrl) },
    spec: {
      enabled: true,
      ...kept.spec,
      runtime: {
        ...kept.runtime,
        image: sandbox.image,
        memory: sandbox.shape.memoryMib,
        ports: kept.runtime['ports'] ?? sandbox.ports,
        envs: envsOf(sandbox, kept.secretEnvs, context),
      },
    },
    status: archive ?? standing.status,
    ...(archive === undefined ? stateOf(standing, context) : archiveOf(context)),
    lastUsedAt: iso(lastUsedAtMs),
    ...expiresInOf(standing, context.nowMs),
    ...errorsOf(sandbox),
    events: eventsOf(sandbox, standing),
  };
}

/**
 * One that somebody had stored is archived until its next use, which for us brings back its memory too. One that is stored because it slept for long is
 * in standby like any other.
 */
function archiveStatusOf(instance: ViewContext['instance']): 'ARCHIVING' | 'ARCHIVED' | 'UNARCHIVING' | undefined {
  if (!instance?.storeAsked) return undefined;
  switch (instance.state) {
    case 'storing':
      return 'ARCHIVING';
    case 'stored':
      return 'ARCHIVED';
    case 'restoring':
      return 'UNARCHIVING';
    default:
      return undefined;
  }
}

function archiveOf({ instance }: ViewContext): { archive?: { createdAt: string; size: number } } {
  const { imageAtMs, imageBytes } = instance ?? {};
  if (imageAtMs === undefined || imageBytes === undefined) return {};
  return { archive: { createdAt: iso(imageAtMs), size: imageBytes } };
}

export function dataPlaneUrl(publicUrl: string, workspace: string, name: string): string {
  return `${publicUrl}/${workspace}/sandboxes/${name}`;
}

function metadataOf(sandbox: Sandbox, publicUrl: string): Record<string, unknown> {
  return {
    name: sandbox.name,
    displayName: sandbox.displayName ?? sandbox.name,
    ...(sandbox.externalId === undefined ? {} : { externalId: sandbox.externalId }),
    labels: sandbox.labels,
    workspace: sandbox.workspace,
    url: dataPlaneUrl(publicUrl, sandbox.workspace, sandbox.name),
    createdAt: iso(sandbox.createdAtMs),
    updatedAt: iso(sandbox.updatedAtMs),
    createdBy: sandbox.createdBy,
    updatedBy: sandbox.createdBy,
  };
}

/** A secret's value is left out, which a client sends back as it got it and which then means: unchanged. */
function envsOf(sandbox: Sandbox, secrets: readonly string[], context: ViewContext): Record<string, unknown>[] {
  return sandbox.envNames.map((name) => {
    const secret = secrets.includes(name);
    const value = secret && !context.showSecrets ? undefined : context.env?.[name];
    return { name, ...(value === undefined ? {} : { value }), ...(secret ? { secret } : {}) };
  });
}

/** Said only when known: a state that nobody has looked at would be a guess. */
function stateOf(standing: Standing, { instance }: ViewContext): { state?: 'RUNNING' | 'STANDBY' } {
  if (standing.status !== 'DEPLOYED' || !instance) return {};
  return { state: isAsleep(instance.state) ? 'STANDBY' : 'RUNNING' };
}

function expiresInOf(standing: Standing, nowMs: number): { expiresIn?: number } {
  if (standing.kind === 'ended') return { expiresIn: 0 };
  return standing.endsAtMs === undefined ? {} : { expiresIn: Math.ceil((standing.endsAtMs - nowMs) / 1000) };
}

function errorsOf(sandbox: Sandbox): { errors?: unknown[] } {
  if (sandbox.phase !== 'failed') return {};
  return {
    errors: [{ code: 'FAILED', fatal: true, message: sandbox.reason ?? 'unknown', time: iso(sandbox.updatedAtMs) }],
  };
}

function eventsOf(sandbox: Sandbox, standing: Standing): unknown[] {
  const events = [
    { time: iso(sandbox.createdAtMs), type: 'creation', status: 'DEPLOYING', message: 'creation asked for' },
  ];
  if (standing.kind === 'ended') {
    events.push({ time: iso(standing.atMs), type: 'termination', status: 'TERMINATED', message: standing.because });
  } else if (standing.status === 'FAILED') {
    events.push({
      time: iso(sandbox.updatedAtMs),
      type: 'failure',
      status: 'FAILED',
      message: sandbox.reason ?? 'unknown',
    });
  }
  return events;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
