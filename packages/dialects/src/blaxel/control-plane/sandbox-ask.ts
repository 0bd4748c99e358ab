import { DEFAULT_SHAPE, type IdlePolicy, type Port, type SandboxAsk, type WorkspaceName } from '@torpor/contracts';
import { parseEnding } from './expiries.ts';
import { DEFAULT_IMAGE, resolveBlaxelImage, type BlaxelImage } from './images.ts';
import { accept, blaxelCreationError, type BlaxelRefusal, type Parsed } from './refusals.ts';
import {
  mergeKept,
  NOTHING_KEPT,
  parseSandboxBody,
  writeExtra,
  type EnvEntry,
  type SandboxBody,
} from './sandbox-body.ts';

/** What an installation offers and by which measure. */
export interface BlaxelOffer {
  readonly images: readonly BlaxelImage[];
  readonly memoryMibDefault: number;
  readonly memoryMibMax: number;
  readonly diskMib: number;
  readonly pids: number;
  readonly idle: IdlePolicy;
  /** False: a sandbox that asks for them is refused, not made without them. */
  readonly volumes: boolean;
  readonly networkRules: boolean;
}

/** Blaxel's own defaults: 4 GiB, asleep after 15 s without use. */
export function plainOffer(images: readonly BlaxelImage[]): BlaxelOffer {
  return {
    images,
    memoryMibDefault: DEFAULT_SHAPE.memoryMib,
    memoryMibMax: 64 * 1024,
    diskMib: DEFAULT_SHAPE.diskMib,
    pids: DEFAULT_SHAPE.pids,
    idle: { kind: 'after', idleMs: 15_000 },
    volumes: false,
    networkRules: false,
  };
}

export interface AskContext {
  readonly workspace: WorkspaceName;
  readonly createdBy: string;
  /** `?createIfNotExist=true`. */
  readonly createIfNotExist: boolean;
  readonly offer: BlaxelOffer;
  readonly nowMs: number;
}

/** `POST /sandboxes`: the body as an ask for the scheduler, or the refusal in the shape of sandbox creation. */
export function parseBlaxelCreate(json: unknown, context: AskContext): Parsed<SandboxAsk> {
  const shape = parseSandboxBody(json ?? {});
  if (!shape.ok) return asCreationError(shape.refusal, context);
  const { body } = shape.value;
  const kept = mergeKept(NOTHING_KEPT, shape.value.kept);
  const name = body.metadata?.name ?? undefined;
  const no = (code: Parameters<typeof blaxelCreationError>[0]['code'], status: number, step: string, message: string) =>
    refusal(context, name, { code, status, step, message });

  const lacking = whatWeLack(body, context.offer);
  if (lacking) return no('NOT_SUPPORTED', 501, 'validation', lacking);
  const ending = parseEnding(kept);
  if (!ending.ok) return asCreationError(ending.refusal, context, name);
  if (ending.value.expiry.atMs !== undefined && ending.value.expiry.atMs <= context.nowMs) {
    return no('INVALID_REQUEST', 400, 'validation', 'the sandbox would expire in the past; expected a date to come');
  }
  const image = body.spec?.runtime?.image || DEFAULT_IMAGE;
  const resolved = resolveBlaxelImage(image, context.offer.images);
  if (resolved.kind === 'refused') return no('INVALID_IMAGE', 400, 'image', resolved.message);
  const memoryMib = body.spec?.runtime?.memory ?? context.offer.memoryMibDefault;
  if (memoryMib > context.offer.memoryMibMax) {
    return no(
      'QUOTA_EXCEEDED',
      400,
      'validation',
      `spec.runtime.memory is ${memoryMib}; expected at most ${context.offer.memoryMibMax}`,
    );
  }
  const envs = body.spec?.runtime?.envs ?? [];
  return accept({
    workspace: context.workspace,
    ...(name === undefined ? {} : { name }),
    reuse: context.createIfNotExist && name !== undefined,
    template: resolved.template,
    image,
    shape: { memoryMib, cpus: cpusOf(memoryMib), diskMib: context.offer.diskMib, pids: context.offer.pids },
    env: Object.fromEntries(envs.map((entry) => [entry.name, entry.value ?? ''])),
    ports: portsOf(body),
    labels: body.metadata?.labels ?? {},
    ...(body.metadata?.displayName ? { displayName: body.metadata.displayName } : {}),
    ...(body.metadata?.externalId ? { externalId: body.metadata.externalId } : {}),
    idle: context.offer.idle,
    ...ending.value,
    extra: writeExtra({}, { ...kept, secretEnvs: secretsOf(envs) }),
    createdBy: context.createdBy,
  });
}

/** Half a core per GiB, and at least a tenth. */
function cpusOf(memoryMib: number): number {
  return Math.max(0.1, memoryMib / 2048);
}

export function portsOf(body: SandboxBody): Port[] {
  return (body.spec?.runtime?.ports ?? []).map((port) => ({
    target: port.target,
    ...(port.name ? { name: port.name } : {}),
    ...(port.protocol ? { protocol: port.protocol } : {}),
  }));
}

function secretsOf(envs: readonly EnvEntry[]): string[] {
  return envs.filter((entry) => entry.secret === true).map((entry) => entry.name);
}

/**
 * What a sandbox would silently miss here: a disk that outlives it, or a fence around its network. To make it without would be a lie,
 * so it is refused and said.
 */
export function whatWeLack(body: SandboxBody, offer: BlaxelOffer): string | undefined {
  if (!offer.volumes && (body.spec?.volumes ?? []).length > 0) {
    return 'spec.volumes: this server offers no volumes yet; leave them out';
  }
  if (!offer.networkRules && asksForRules(body.spec?.network)) {
    return 'spec.network: this server offers no network rules yet; leave them out';
  }
  return undefined;
}

function asksForRules(value: unknown): boolean {
  if (value === null || value === undefined || value === '' || value === false) return false;
  return typeof value === 'object' ? Object.values(value).some(asksForRules) : true;
}

function asCreationError(general: BlaxelRefusal, context: AskContext, name?: string): Parsed<never> {
  const message = String(general.body['message']);
  return refusal(context, name, { code: 'INVALID_REQUEST', status: general.status, step: 'validation', message });
}

function refusal(
  context: AskContext,
  name: string | undefined,
  why: Pick<Parameters<typeof blaxelCreationError>[0], 'code' | 'status' | 'step' | 'message'>,
): Parsed<never> {
  const about = {
    workspace: context.workspace,
    atMs: context.nowMs,
    ...(name === undefined ? {} : { sandboxName: name }),
  };
  return { ok: false, refusal: blaxelCreationError({ ...why, ...about }) };
}
