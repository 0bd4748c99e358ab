/** Making an instance that has run nothing but the guest, and giving it an identity. Both are journaled; neither cleans up after itself. */
import { newInstanceId, type Shape } from '@torpor/contracts';
import { randomWord, type Chance } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';
import type { Claim, Spec } from '../journal/index.ts';
import type { Body, Parts, Recipe } from '../parts.ts';

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
  const { driver, journal } = parts;
  const bootToken = newToken(parts.chance);
  const spec = { slot: body.slot, template: what.template, shape: what.shape, bootToken };
  const steps = driver.createSteps({ ...spec, instanceId: body.hostId });
  const intent = await journal.intendCreate(body.hostId, spec, steps);
  await journal.carryOut(intent, steps);
  const { pid, startTicks } = await driver.inspect(body.hostId);
  const { build } = driver;
  await journal.createDone(body.hostId, { ...(pid ? { pid } : {}), ...(startTicks ? { startTicks } : {}), build });
  const guest = driver.guest(driver.handle({ instanceId: body.hostId, slot: body.slot }), bootToken);
  return { hostId: body.hostId, slot: body.slot, template: what.template, shape: what.shape, spec, guest };
}

/** Makes it this sandbox. When it rejects, the instance may have half an identity: it must be destroyed. */
export async function claimOnHost(
  parts: Parts,
  made: Made & { readonly asleep: boolean },
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
  });
  await parts.journal.claimDone(made.hostId);
}

export function newToken(chance: Chance): string {
  return randomWord(chance, 40);
}
