/**
 * Every process of the stack may be killed at any time while sandboxes run and sleep: afterwards everything is found again, and nothing hangs meanwhile.
 * The tier `soak` kills at random for 20 minutes; `TORPOR_CHAOS_S` says another length.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { cpuUsageNs, isFrozen } from '../bench/lib/host.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { chaos } from './chaos.ts';
import { Counter } from './counter.ts';
import { follow, longExec, talk } from './follow.ts';
import { runs } from './host-sets.ts';
import { anotherWorkspace, ownInstallation, type OwnInstallation } from './own-installation.ts';
import { removed } from './removed.ts';
import { settled } from './settled.ts';
import { freshName, isFull, isSoak } from './test-stack.ts';
import { until } from './until.ts';

const POOL = 1;
/** By when all are back, on a machine that may have other things to do; how long it took is printed. */
const RECOVERY_MS = 60_000;
const CHAOS_S = Number(process.env.TORPOR_CHAOS_S ?? (isSoak ? 1_200 : isFull ? 180 : 20));

let installation: OwnInstallation;
let stack: Stack;
let awake: Counter;
let asleep: Counter;
const said: string[] = [];

beforeAll(async () => {
  installation = await ownInstallation('restart', ['--pool', String(POOL), '--disk', '4']);
  stack = await installation.up();
  awake = await Counter.start(stack, freshName('awake'));
  asleep = await Counter.start(stack, freshName('asleep'));
  await settled(stack, POOL);
});

afterAll(async () => {
  process.stdout.write(`${said.join('\n')}\n`);
  await installation?.purge();
});

describe('after SIGKILL', () => {
  // Without these, changes stop; what is there is used as before.
  it.for(['nats', 'postgres', 'hostd', 'sandbox-scheduler'])(
    'of %s, nobody who uses a sandbox notices',
    async (name) => {
      await sleeps();
      await kill(name);
      expect(await awake.try(`/while-${name}-is-gone`)).toBeDefined(); // the first try, and no second
      await isFoundAgain(name);
    },
  );

  it.for(['node-agent', 'gateway'])(
    'of %s, open requests end with an error within 5 s, and everything is found again',
    async (name) => {
      await sleeps();
      const talker = await talk(stack, awake.made, freshName('talker'));
      const open = [await follow(stack, awake.made, talker), longExec(stack, awake.made, freshName('long'))];
      await kill(name);
      const tookMs = await until('the open requests have ended', 5_000, async () =>
        open.every(({ ended }) => ended() !== undefined),
      );
      for (const { ended } of open) expect(ended()).toMatch(/^error/);
      said.push(`open requests ended ${tookMs.toFixed(0)} ms after the death of ${name}`);
      await isFoundAgain(name);
    },
  );

  it('of the supervisor, the next up ends its orphans and finds everything', async () => {
    await sleeps();
    const { pid, services } = await installation.status();
    process.kill(pid, 'SIGKILL');
    expect(await awake.try('/without-supervisor')).toBeDefined();
    const began = performance.now();
    await installation.up();
    said.push(`up after the death of the supervisor: ${(performance.now() - began).toFixed(0)} ms`);
    const now = await installation.status();
    expect(now.pid).not.toBe(pid);
    for (const { name, pid: old } of services) {
      expect(
        now.services.map((each) => each.pid),
        `${name} of the old supervisor`,
      ).not.toContain(old);
      expect(await runs(old ?? 0), `${name} of the old supervisor runs`).toBe(false);
    }
    await isFoundAgain(undefined);
  });
});

it('down leaves every sandbox frozen, and the next up wakes it with its memory', async () => {
  await sleeps();
  await installation.down();
  for (const { made } of [awake, asleep]) expect(await isFrozen(stack.scope, made.hostId), made.name).toBe(true);
  const used = await cpuUsageNs(stack.scope, awake.made.hostId);
  await installation.up();
  expect(await cpuUsageNs(stack.scope, awake.made.hostId)).toBe(used);
  await isFoundAgain(undefined);
});

it(
  `loses nothing, hangs nowhere and crosses no workspaces in ${CHAOS_S} s of random kills`,
  { timeout: (CHAOS_S + 300) * 1000 },
  async () => {
    const other = await anotherWorkspace(stack, freshName('other'));
    const report = await chaos({ installation, workspaces: [stack, other], forMs: CHAOS_S * 1000 });
    said.push(report);
    await Promise.all([awake.ask('/after-chaos', RECOVERY_MS), asleep.ask('/after-chaos', RECOVERY_MS)]);
    await settled(stack, POOL);
  },
);

async function sleeps(): Promise<void> {
  await api(stack).pause(asleep.made.name);
  expect(await isFrozen(stack.scope, asleep.made.hostId)).toBe(true);
}

async function kill(name: string): Promise<void> {
  const { pid } = await service(name);
  if (pid === undefined) throw new Error(`${name} does not run`);
  process.kill(pid, 'SIGKILL');
}

async function service(name: string) {
  const found = (await installation.status()).services.find((each) => each.name === name);
  if (!found) throw new Error(`no service is called ${name}`);
  return found;
}

/** All healthy again, sleepers asleep until used, counters going on, and a create works. */
async function isFoundAgain(name: string | undefined): Promise<void> {
  const began = performance.now();
  await until('all are healthy again', RECOVERY_MS, async () =>
    (await installation.status()).services.every(({ healthy, pid }) => healthy && pid !== undefined),
  );
  const healthyMs = performance.now() - began;
  await awake.ask('/again', RECOVERY_MS);
  const usedMs = performance.now() - began;
  expect(await isFrozen(stack.scope, asleep.made.hostId), 'it is still asleep').toBe(true);
  await asleep.ask('/again', RECOVERY_MS);
  const made: string[] = [];
  // A create that was not answered may have been carried out: each try takes another name.
  const creates = () => api(stack).create({ name: (made[made.length] = freshName('made')) });
  await until('a create is answered', RECOVERY_MS, () => succeeds(creates()));
  const createdMs = performance.now() - began;
  if (name)
    said.push(
      `${name}: healthy ${healthyMs.toFixed(0)} ms, used ${usedMs.toFixed(0)} ms, create ${createdMs.toFixed(0)} ms after its death`,
    );
  for (const each of made) await removed(stack, each);
  await settled(stack, POOL);
}

function succeeds(asked: Promise<unknown>): Promise<boolean> {
  return asked.then(
    () => true,
    () => false,
  );
}
