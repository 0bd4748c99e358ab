/** Making an instance that has run nothing but the guest, and giving it an identity. Both are journaled; neither cleans up after itself. */
import { newInstanceId, type InstanceId, type Shape } from '@torpor/contracts';
import { randomWord, type Chance } from '@torpor/kernel';
import type { Guest, Step } from '@torpor/runtime';
import { createHash } from 'node:crypto';
import type { Claim, Spec } from '../journal/index.ts';
import type { Body, Parts, Recipe } from '../parts.ts';
import type { Copy } from '../volumes/volumes.ts';

export interface Made extends Body {
  readonly template: string;
  readonly shape: Shape;
  /** What it was made of, which an image of it wants again. */
  readonly spec: Spec;
  readonly guest: Guest;
}

/** A place on the host that nobody has: nothing is done yet. */
export function newBody(parts: Parts): Body {
  const hostId = newInstanceId(parts.chance);
  return { hostId, slot: parts.slots.take(hostId) };
}

export async function createOnHost(parts: Parts, body: Body, what: { template: string; shape: Shape }): Promise<Made> {
  const spec = specOf(parts, body, what);
  const steps = parts.driver.createSteps({ ...spec, instanceId: body.hostId });
  return await carryThrough(parts, body, { spec, steps, token: spec.bootToken });
}

/** What a fork is made of: a snapshot, and what there was to it when it was made. */
export interface Origin {
  readonly image: string;
  readonly key: Uint8Array;
  readonly template: string;
  readonly shape: Shape;
  /** Accepted by the guest that comes back. */
  readonly token: string;
  /** What its memory takes when all of it is there. */
  readonly memoryMib: number;
  /** Its own, of those that the snapshot holds. */
  readonly volumes: readonly Copy[];
}

/** As `createOnHost`, with memory, processes and disk as the snapshot holds them. It believes itself to be what that was of, until the claim. */
export async function forkOnHost(
  parts: Parts,
  body: Body,
  { instanceId, ...origin }: Origin & { readonly instanceId: InstanceId },
): Promise<Made> {
  const spec = specOf(parts, body, origin);
  const { image, key, token } = origin;
  const disk = { kind: 'as-then' } as const;
  const volumes = origin.volumes.map(({ volume, name, of, sizeMib }) => ({ volume, name, of, newMib: sizeMib }));
  const steps = parts.driver.restoreSteps({ ...spec, instanceId: body.hostId, image, key, token, disk, volumes });
  await parts.volumes.expectCopies(origin.volumes, { hostId: body.hostId, instanceId });
  const made = await carryThrough(parts, body, { spec, steps, token });
  await parts.volumes.copiesMade(origin.volumes);
  return made;
}

function specOf({ chance }: Parts, { slot }: Body, { template, shape }: { template: string; shape: Shape }): Spec {
  return { slot, template, shape, bootToken: newToken(chance) };
}

async function carryThrough(
  { driver, journal }: Parts,
  { hostId, slot }: Body,
  { spec, steps, token }: { spec: Spec; steps: readonly Step[]; token: string },
): Promise<Made> {
  const intent = await journal.intendCreate(hostId, spec, steps);
  await journal.carryOut(intent, steps);
  const { pid, startTicks } = await driver.inspect(hostId);
  const { build } = driver;
  await journal.createDone(hostId, { ...(pid ? { pid } : {}), ...(startTicks ? { startTicks } : {}), build });
  const guest = driver.guest(driver.handle({ instanceId: hostId, slot }), token);
  return { hostId, slot, template: spec.template, shape: spec.shape, spec, guest };
}

/** Makes it this sandbox. When it rejects, the instance may have half an identity: it must be destroyed. */
export async function claimOnHost(
  parts: Parts,
  made: Made & { readonly asleep: boolean; readonly isFork?: boolean },
  claim: Claim,
  recipe: Recipe & { readonly env: Readonly<Record<string, string>> },
): Promise<void> {
  const intended = parts.journal.intendClaim(made.hostId, claim);
  // Waking is not journaled, so it need not wait for the fsync.
  const awake = made.asleep ? parts.driver.resume(made.hostId) : undefined;
  const [intent, woken] = await Promise.allSettled([intended, awake]);
  if (intent.status === 'rejected') throw intent.reason;
  if (woken.status === 'rejected') throw woken.reason;
  await made.guest.claim({
    name: claim.name,
    hostname: claim.name,
    env: recipe.env,
    workdir: recipe.workdir,
    user: recipe.user,
    token: claim.token,
    generation: claim.generation,
    ...(made.isFork ? { files: ownFiles(parts, made, claim) } : {}),
  });
  await parts.journal.claimDone(made.hostId);
}

/** Files by which machines are told apart, and find their way: a fork has those of its parent. */
function ownFiles({ driver }: Parts, { hostId, slot }: Body, { instanceId }: Claim) {
  const machineId = createHash('sha256').update(instanceId).digest('hex').slice(0, 32);
  const { nameserver } = driver.handle({ instanceId: hostId, slot });
  const resolver = `nameserver ${nameserver}\noptions timeout:3 attempts:2\n`;
  return [
    { path: '/etc/machine-id', content: `${machineId}\n`, mode: '0444' },
    ...(nameserver === undefined ? [] : [{ path: '/etc/resolv.conf', content: resolver }]),
  ];
}

export function newToken(chance: Chance): string {
  return randomWord(chance, 40);
}
