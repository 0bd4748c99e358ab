/**
 * The JSON of a sandbox as clients send it: what we know of it is checked, what we do not know is kept as it came (`Kept`) and given back,
 * and what only we may say (times, url, status) is passed over. `null` is the same as absence, except where a change says otherwise.
 */
import { describeIssues, ENV_BYTES_MAX, envBytes, SandboxName } from '@torpor/contracts';
import { z } from 'zod';
import { accept, refuse, type Parsed } from './refusals.ts';

const Text = z.string();

export const EnvEntry = z.looseObject({
  name: Text.regex(
    /^[A-Za-z_][A-Za-z0-9_]*$/,
    'expected letters, digits and underscores, not starting with a digit',
  ).max(256),
  value: Text.max(128 * 1024)
    .refine((value) => !value.includes('\0'), 'expected no NUL byte')
    .nullish(),
  secret: z.boolean().nullish(),
});
export type EnvEntry = z.infer<typeof EnvEntry>;

const PortEntry = z.looseObject({
  target: z
    .int('expected a whole number')
    .min(1)
    .max(65535)
    .refine((port) => ![80, 443, 8080].includes(port), 'expected another port: 80, 443 and 8080 are reserved'),
  name: Text.max(63).nullish(),
  protocol: z.preprocess(
    (value) => (typeof value === 'string' ? value.toUpperCase() : value),
    z.enum(['HTTP', 'TCP', 'UDP', 'TLS']).nullish(),
  ),
});

const Runtime = z.looseObject({
  image: Text.nullish(),
  memory: z.int('expected a whole number of MiB').min(128).nullish(),
  ports: z.array(PortEntry).max(100).nullish(),
  envs: z.array(EnvEntry).max(1000).nullish(),
  ttl: Text.nullish(),
  expires: Text.nullish(),
  extraArgs: z.record(Text, z.unknown()).nullish(),
});

const Lifecycle = z.looseObject({
  expirationPolicies: z
    .array(
      z.looseObject({
        type: z.enum(['ttl-idle', 'ttl-max-age', 'date']),
        value: Text,
        action: z.literal('delete').nullish(),
      }),
    )
    .max(20)
    .nullish(),
  terminatedRetention: Text.nullish(),
});
export type Lifecycle = z.infer<typeof Lifecycle>;

const Metadata = z.looseObject({
  // An empty name is sent by clients that mean none.
  name: z.preprocess((value) => (value === '' ? undefined : value), SandboxName.nullish()),
  displayName: Text.max(63).nullish(),
  externalId: Text.max(64)
    .regex(/^[A-Za-z0-9-]*$/, 'expected letters, digits and hyphens')
    .nullish(),
  labels: z
    .record(Text.max(128), Text.max(1024))
    .refine((labels) => Object.keys(labels).length <= 100, 'expected at most 100')
    .nullish(),
});

const Body = z.looseObject({
  metadata: Metadata.nullish(),
  spec: z
    .looseObject({
      runtime: Runtime.nullish(),
      lifecycle: Lifecycle.nullish(),
      network: z.record(Text, z.unknown()).nullish(),
      volumes: z.array(z.looseObject({})).nullish(),
      region: Text.max(64).nullish(),
    })
    .nullish(),
});
export type SandboxBody = z.infer<typeof Body>;

/** Fields of the dialect that the core has no use for. `null` inside means: was sent as null. */
export interface Kept {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec: Readonly<Record<string, unknown>>;
  readonly runtime: Readonly<Record<string, unknown>>;
}

const OURS = {
  metadata: [
    'name',
    'displayName',
    'externalId',
    'labels',
    'workspace',
    'url',
    'plan',
    'createdAt',
    'updatedAt',
    'createdBy',
    'updatedBy',
  ],
  spec: ['runtime', 'enabled'],
  runtime: ['image', 'memory', 'ports', 'envs'],
};

const KEPT_BYTES_MAX = 64 * 1024;

/** Checks the shape of a body. Semantics (images, spans, limits) are the caller's. */
export function parseSandboxBody(body: unknown): Parsed<{ body: SandboxBody; kept: Kept }> {
  const parsed = Body.safeParse(body);
  if (!parsed.success) return refuse(400, describeIssues(parsed.error));
  const kept = keptOf(parsed.data);
  const bytes = Buffer.byteLength(JSON.stringify(kept));
  if (bytes > KEPT_BYTES_MAX) {
    return refuse(
      400,
      `the fields beside name, image, memory, ports and envs take ${bytes} bytes; expected at most ${KEPT_BYTES_MAX}`,
    );
  }
  const envs = parsed.data.spec?.runtime?.envs ?? [];
  const heavy = envBytes(envs.map(({ name, value }) => [name, value ?? '']));
  if (heavy > ENV_BYTES_MAX)
    return refuse(400, `spec.runtime.envs take ${heavy} bytes; expected at most ${ENV_BYTES_MAX}`);
  return accept({ body: parsed.data, kept });
}

function keptOf(body: SandboxBody): Kept {
  const spec = body.spec ?? {};
  return {
    metadata: without(body.metadata ?? {}, OURS.metadata),
    spec: without(spec, OURS.spec),
    runtime: without(spec.runtime ?? {}, OURS.runtime),
  };
}

function without(fields: object, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([name, value]) => !names.includes(name) && value !== undefined),
  );
}

/** Lays what is sent over what was kept: a field sent as null goes, one not sent stays. */
export function mergeKept(before: Kept, sent: Kept): Kept {
  return {
    metadata: layOver(before.metadata, sent.metadata),
    spec: layOver(before.spec, sent.spec),
    runtime: layOver(before.runtime, sent.runtime),
  };
}

function layOver(
  old: Readonly<Record<string, unknown>>,
  now: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  return Object.fromEntries(Object.entries({ ...old, ...now }).filter(([, value]) => value !== null));
}

export const NOTHING_KEPT: Kept = { metadata: {}, spec: {}, runtime: {} };

const Stored = z.object({
  metadata: z.record(Text, z.unknown()).default({}),
  spec: z.record(Text, z.unknown()).default({}),
  runtime: z.record(Text, z.unknown()).default({}),
  secretEnvs: z.array(Text).default([]),
});

/** What lies in a sandbox's `extra`: our corner of it is `extra.blaxel`. Sandboxes made in another dialect have none. */
export interface BlaxelExtra extends Kept {
  readonly secretEnvs: readonly string[];
}

export function readExtra(extra: Readonly<Record<string, unknown>>): BlaxelExtra {
  const parsed = Stored.safeParse(extra['blaxel'] ?? {});
  return parsed.success ? parsed.data : { ...NOTHING_KEPT, secretEnvs: [] };
}

export function writeExtra(extra: Readonly<Record<string, unknown>>, ours: BlaxelExtra): Record<string, unknown> {
  return { ...extra, blaxel: ours };
}
