/** The promises of DESIGN §2 and §4, held against the world: some at every look, the others when all is well again. */
import { isAsleep, type InstanceReport } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { expectFile, WORKSPACE } from './client.ts';
import type { Ledger } from './ledger.ts';
import type { Box, World } from './world.ts';

/** A node whose lease has ended freezes what it holds; the death of its agent may put that off until the agent is back. */
const FREEZE_MS = 9_000;

/** Holds at every instant: one incarnation is awake on one node at most, and none on a node without its lease. */
export async function lookNow(world: World): Promise<void> {
  const awake = new Map<string, string>();
  for (const box of world.boxes) {
    const leaseUntilMs = (await world.store.fleet.get(box.id))?.leaseUntilMs ?? 0;
    const isFenced = leaseUntilMs > 0 && leaseUntilMs + FREEZE_MS < world.clock.nowMs();
    for (const report of reports(box)) {
      const key = `${report.instanceId}/${report.generation}`;
      if (!isAwakeOnHost(box, report)) continue;
      if (isFenced) world.story.breaks(`${key} of "${report.name}" is awake on ${box.id}, whose lease has ended`);
      const other = awake.get(key);
      if (other) world.story.breaks(`${key} of "${report.name}" is awake on ${other} and on ${box.id}`);
      awake.set(key, box.id);
    }
  }
}

/** Between two pauses of an instance it is resumed once, however many requests came; the death of its agent begins anew. */
export class WakeWatch {
  readonly #box: Box;
  readonly #world: World;
  readonly #asleep = new Map<string, boolean>();
  #seen = 0;

  constructor(world: World, box: Box) {
    this.#world = world;
    this.#box = box;
  }

  agentDied(): void {
    this.look();
    this.#asleep.clear();
  }

  look(): void {
    for (; this.#seen < this.#box.host.calls.length; this.#seen++) {
      const call = this.#box.host.calls[this.#seen];
      if (call?.instanceId === undefined) continue;
      if (call.verb === 'sandbox.pause') this.#asleep.set(call.instanceId, true);
      if (call.verb !== 'sandbox.resume') continue;
      if (this.#asleep.get(call.instanceId) === false) {
        this.#world.story.breaks(`${call.instanceId} on ${this.#box.id} was resumed twice for one sleep`);
      }
      this.#asleep.set(call.instanceId, false);
    }
  }
}

/** Holds once all troubles are over and every room had time to put things right. */
export async function lookInTheEnd(world: World, ledger: Ledger): Promise<void> {
  await everyAnsweredCreateIsThere(world, ledger);
  await recordAndHostsAgree(world, ledger);
  await filesAreThere(world, ledger);
}

async function everyAnsweredCreateIsThere({ store, story, clock }: World, ledger: Ledger): Promise<void> {
  for (const create of ledger.creates) {
    const { name, createdAtMs, instanceId } = create.sandbox;
    if (ledger.mayHave('delete', create)) continue;
    const now = await store.workspace(WORKSPACE).sandboxes.get(name, clock.nowMs());
    const told = `the answered ${instanceId} of "${name}"`;
    const mayHaveFailed = ledger.mayHave('restart', create) || ledger.mayHave('host fault', create);
    const kept = now?.createdAtMs === createdAtMs ? now : undefined;
    // A create over a failed sandbox replaces it, and may then come to nothing itself.
    if (!kept && mayHaveFailed && ledger.wasAskedAgain(create)) continue;
    if (!kept) story.breaks(`${told} is lost: ${now ? `${now.instanceId} has its name` : 'there is no record'}`);
    else if (kept.phase === 'failed' && mayHaveFailed && kept.reason) continue;
    else if (kept.phase !== 'ready') story.breaks(`${told} is ${kept.phase}: ${kept.reason ?? 'no reason'}`);
    else if (kept.instanceId !== instanceId && !ledger.mayHave('restart', create))
      story.breaks(`${told} was restarted as ${kept.instanceId} by nobody`);
  }
}

/** Whole or absent: what the record calls ready is on its node, and nothing else is on any host but what waits in pools. */
async function recordAndHostsAgree(world: World, ledger: Ledger): Promise<void> {
  const { store, story, boxes, clock } = world;
  const { items } = await store.workspace(WORKSPACE).sandboxes.list({ nowMs: clock.nowMs(), limit: 200 });
  for (const stuck of items.filter((row) => row.phase === 'creating'))
    story.breaks(`"${stuck.name}" is still being created`);
  const open = await store.wanted.endings({});
  for (const ending of open) story.breaks(`the ending of ${ending.instanceId} on ${ending.nodeId} is still open`);
  for (const box of boxes) {
    const wanted = items
      .filter((row) => row.phase === 'ready' && row.nodeId === box.id)
      .map((row) => `${row.instanceId}/${row.generation}`);
    const there = reports(box)
      .filter((one) => one.state === 'running' || isAsleep(one.state))
      .map((one) => `${one.instanceId}/${one.generation}`);
    if (wanted.sort().join() !== there.sort().join())
      story.breaks(
        `node ${box.id} should hold [${wanted.join(' ')}] and holds [${reports(box)
          .map((one) => `${one.instanceId}/${one.generation} ${one.state}`)
          .join(', ')}]`,
      );
    const known = new Set<string | undefined>(reports(box).map((one) => one.hostId));
    const pooled = box.agent.living?.pools.depths().reduce((sum, pool) => sum + pool.ready, 0) ?? 0;
    for (const [what, ids] of [
      ['processes', box.host.sandboxes],
      ['networks', box.host.nets],
      ['disks', box.host.disks],
    ] as const) {
      const strays = [...ids.keys()].filter((id) => !known.has(id));
      if (strays.length !== pooled)
        story.breaks(`host ${box.id} has ${strays.length} ${what} besides its instances, and its pools hold ${pooled}`);
    }
    for (const report of reports(box))
      if (ledger.deletedAtMs.has(report.instanceId)) story.breaks(`the deleted ${report.instanceId} is on ${box.id}`);
  }
}

async function filesAreThere(world: World, ledger: Ledger): Promise<void> {
  for (const box of world.boxes) {
    for (const { instanceId, generation, name, state } of reports(box)) {
      if (state !== 'running' && !isAsleep(state)) continue;
      for (const file of ledger.files.get(`${instanceId}/${generation}`) ?? []) {
        const lost = (what: string) => world.story.breaks(`${instanceId} of "${name}" lost ${what}`);
        const looking = world.reach(box.id, { instanceId, generation }, (guest) => expectFile(guest, file, lost));
        await world.clock
          .until(looking)
          .catch((error: unknown) => lost(`${file.path}: ${error instanceof Failure ? error.code : String(error)}`));
      }
    }
  }
}

function reports(box: Box): InstanceReport[] {
  return box.agent.living?.standby.reports() ?? [];
}

function isAwakeOnHost(box: Box, report: InstanceReport): boolean {
  const sandbox = report.hostId ? box.host.sandboxes.get(report.hostId) : undefined;
  return sandbox !== undefined && sandbox.started && !sandbox.gate.isShut;
}
