import { isDeepStrictEqual } from 'node:util';
import type { Expiry, Sandbox, updateSandbox } from '@torpor/contracts';
import type { z } from 'zod';
import { parseEnding } from './expiries.ts';
import { resolveBlaxelImage } from './images.ts';
import { accept, refuse, type Parsed } from './refusals.ts';
import { portsOf, whatWeLack, type BlaxelOffer } from './sandbox-ask.ts';
import { mergeKept, parseSandboxBody, readExtra, writeExtra, type EnvEntry, type SandboxBody } from './sandbox-body.ts';

type UpdateRequest = z.infer<typeof updateSandbox.request>;

export interface BlaxelUpdate {
  /** What changes, for the scheduler; workspace and name are the caller's to add. Empty: nothing does. */
  readonly changes: Omit<UpdateRequest, 'workspace' | 'name'>;
  /** The environment changes: the sandbox starts anew and its files go. */
  readonly restarts: boolean;
}

export interface UpdateContext {
  readonly current: Sandbox;
  /** As the store keeps it: values that a client sends back masked are taken from here. */
  readonly currentEnv: Readonly<Record<string, string>>;
  readonly offer: BlaxelOffer;
  readonly nowMs: number;
}

/**
 * `PUT /sandboxes/{name}`. Clients send back the whole object as they read it, with their changes. So what is absent stays as it is,
 * what only we may say is passed over, and null or '' clears a limit.
 */
export function parseBlaxelUpdate(json: unknown, context: UpdateContext): Parsed<BlaxelUpdate> {
  const shape = parseSandboxBody(json ?? {});
  if (!shape.ok) return shape;
  const { body, kept: sent } = shape.value;
  const { current } = context;
  const wrong = whatCannotChange(body, context);
  if (wrong) return wrong;

  const before = readExtra(current.extra);
  const after = mergeKept(before, sent);
  const ending = parseEnding(after);
  if (!ending.ok) return ending;
  const endsAtMs = ending.value.expiry.atMs;
  if (endsAtMs !== undefined && endsAtMs <= context.nowMs && endsAtMs !== current.expiry.atMs) {
    return refuse(400, 'the sandbox would expire in the past; expected a date to come');
  }
  const env = mergeEnv(body.spec?.runtime?.envs ?? undefined, context.currentEnv);
  const extra = writeExtra(current.extra, {
    ...after,
    runtime: withPorts(after.runtime, body, current),
    secretEnvs: stillSecret(body.spec?.runtime?.envs ?? undefined, before.secretEnvs),
  });
  const labels = body.metadata?.labels ?? undefined;
  const changes = {
    ...changed('labels', labels, current.labels),
    ...changed('displayName', body.metadata?.displayName ?? undefined, current.displayName ?? current.name),
    ...changed('externalId', body.metadata?.externalId || undefined, current.externalId),
    ...changed(
      'expiry',
      endingWasSent(sent.runtime, sent.spec) ? ending.value.expiry : undefined,
      definedOnly(current.expiry),
    ),
    ...changed(
      'terminatedRetentionMs',
      'lifecycle' in sent.spec ? ending.value.terminatedRetentionMs : undefined,
      current.terminatedRetentionMs,
    ),
    ...changed('env', env, context.currentEnv),
    ...changed('extra', extra, writeExtra(current.extra, before)),
  };
  return accept({ changes, restarts: 'env' in changes });
}

function whatCannotChange(body: SandboxBody, { current, offer }: UpdateContext): ReturnType<typeof refuse> | undefined {
  const name = body.metadata?.name;
  if (name && name !== current.name)
    return refuse(400, `metadata.name is ${name}; a sandbox keeps its name, ${current.name}`);
  const lacking = whatWeLack(body, offer);
  if (lacking) return refuse(501, lacking);
  const image = body.spec?.runtime?.image;
  if (image && image !== current.image) {
    const resolved = resolveBlaxelImage(image, offer.images);
    if (resolved.kind === 'refused') return refuse(400, resolved.message);
    if (resolved.template !== current.template) {
      return refuse(
        501,
        `spec.runtime.image: a sandbox keeps its image here, ${current.image}; make a new sandbox of the other`,
      );
    }
  }
  const memory = body.spec?.runtime?.memory;
  if (memory && memory !== current.shape.memoryMib) {
    return refuse(
      400,
      `spec.runtime.memory is ${memory}; a sandbox keeps what it was made with, ${current.shape.memoryMib}`,
    );
  }
  const kept = readExtra(current.extra);
  const extraArgs = body.spec?.runtime?.extraArgs;
  if (extraArgs && !isDeepStrictEqual(extraArgs, kept.runtime['extraArgs'])) {
    return refuse(400, 'spec.runtime.extraArgs cannot change after the creation');
  }
  const region = body.spec?.region;
  if (region && region !== kept.spec['region']) return refuse(400, 'spec.region cannot change after the creation');
  return undefined;
}

/** Ports carry no meaning for us beyond being told again, so a change of them lies beside the sandbox's own. */
function withPorts(
  runtime: Readonly<Record<string, unknown>>,
  body: SandboxBody,
  current: Sandbox,
): Record<string, unknown> {
  if (!body.spec?.runtime?.ports) return { ...runtime };
  const ports = portsOf(body);
  const { ports: _, ...rest } = runtime;
  return isDeepStrictEqual(ports, current.ports) ? rest : { ...rest, ports };
}

/** An entry without a value is one that we masked: it keeps what it has. */
function mergeEnv(
  sent: readonly EnvEntry[] | undefined,
  current: Readonly<Record<string, string>>,
): Record<string, string> | undefined {
  if (!sent) return undefined;
  return Object.fromEntries(sent.map(({ name, value }) => [name, value ?? current[name] ?? '']));
}

/** A value that was not seen cannot be made public by leaving the flag out. */
function stillSecret(sent: readonly EnvEntry[] | undefined, before: readonly string[]): readonly string[] {
  if (!sent) return before;
  const isSecret = (entry: EnvEntry) =>
    entry.secret === true || (typeof entry.value !== 'string' && before.includes(entry.name));
  return sent.filter(isSecret).map((entry) => entry.name);
}

function endingWasSent(runtime: object, spec: object): boolean {
  return 'ttl' in runtime || 'expires' in runtime || 'lifecycle' in spec;
}

function definedOnly(expiry: Expiry): Expiry {
  return Object.fromEntries(Object.entries(expiry).filter(([, value]) => value !== undefined));
}

function changed<Key extends string, Value>(key: Key, next: Value | undefined, now: unknown): { [K in Key]?: Value } {
  if (next === undefined || isDeepStrictEqual(next, now)) return {};
  return { [key]: next } as { [K in Key]?: Value }; // a computed key widens to string; it is this one
}
