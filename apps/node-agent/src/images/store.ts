/** Storing (DESIGN §4.4): an image of a sleeping instance is made and read back, and only then its RAM may be let go. Journaled step by step. */
import type { InstanceId } from '@torpor/contracts';
import type { Census } from '@torpor/policy';
import type { Step, StoreFacts } from '@torpor/runtime';
import type { Claim, Spec } from '../journal/index.ts';
import type { Parts } from '../parts.ts';
import type { Shelving } from './shelving.ts';

/** Nobody who waits for the sandbox need wait for these: they touch the image alone. */
const BESIDE: ReadonlySet<string> = new Set(['image.seal', 'image.verify']);

/** The store gave way to somebody who waits. */
export class GaveWay extends Error {}

export interface Sleeper {
  readonly hostId: InstanceId;
  readonly claim: Claim;
  readonly spec: Spec;
  readonly shelving: Shelving;
  /** What ran and listened when it fell asleep, if anybody could say. */
  readonly census: Census | undefined;
}

/** Resolves when the image is whole. Throws GaveWay when `giveWay` aborts, as soon as the sandbox may be touched again. */
export async function storeOnHost(parts: Parts, sleeper: Sleeper, giveWay: AbortSignal): Promise<Partial<StoreFacts>> {
  const { shelving } = sleeper;
  const { image, sealedKey, volumes, steps, facts } = nextImage(parts, sleeper);
  const what = { operation: 'store', image, sealedKey, census: sleeper.census, volumes } as const;
  const { intent } = await shelving.intend(what, steps);
  await parts.journal.carryOut(
    intent,
    steps.map((step) => yielding(step, giveWay)),
  );
  const { bytes = 0, memoryBytes = bytes } = facts;
  await shelving.done({ operation: 'store', bytes, memoryBytes }, { durable: false }); // letting go fsyncs
  return facts;
}

/** An image of what it is now, under the next name: the steps that make it, and what they find out on the way. */
export function nextImage(parts: Parts, { hostId, claim, spec, shelving }: Sleeper) {
  const image = `${hostId}-${shelving.shelf.count + 1}`;
  const key = parts.nodeKey.fresh();
  const sealedKey = parts.nodeKey.seal(claim.workspace, image, key);
  const { instanceId, generation } = claim;
  const { template, shape } = spec;
  const volumes = parts.volumes.of(hostId);
  const savedAtMs = parts.clock.nowMs();
  const manifest = { version: 1, instanceId, generation, hostId, template, shape, savedAtMs, volumes };
  const facts: Partial<StoreFacts> = {};
  const told = (found: Partial<StoreFacts>) => void Object.assign(facts, found);
  const steps = parts.driver.storeSteps({ instanceId: hostId, image, key, manifest, volumes }, told);
  return { image, sealedKey, volumes, steps, facts };
}

/** False when somebody came before anything was let go. */
export async function releaseOnHost(
  parts: Parts,
  { hostId, shelving }: Sleeper,
  isAwaited: () => boolean,
): Promise<boolean> {
  const steps = parts.driver.releaseSteps({ instanceId: hostId });
  const { intent } = await shelving.intend({ operation: 'release' }, steps);
  if (isAwaited()) {
    await shelving.lives();
    return false;
  }
  await parts.journal.carryOut(intent, steps);
  await shelving.done({ operation: 'release' }, { durable: true });
  return true;
}

/** Throws GaveWay before a step, or in the middle of one that only concerns the image. */
export function yielding(step: Step, giveWay: AbortSignal): Step {
  return {
    ...step,
    async run(intent) {
      if (giveWay.aborted) throw new GaveWay(`${step.name} gave way to a wake`);
      if (!BESIDE.has(step.name)) return await step.run(intent);
      const way = Promise.withResolvers<never>();
      const leave = () => way.reject(new GaveWay(`${step.name} goes on without a wake that waits`));
      giveWay.addEventListener('abort', leave, { once: true });
      try {
        await Promise.race([step.run(intent), way.promise]);
      } finally {
        giveWay.removeEventListener('abort', leave);
      }
    },
  };
}
