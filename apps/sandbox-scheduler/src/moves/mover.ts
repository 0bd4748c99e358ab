/**
 * One sandbox to another node. Its row says where it lives, and a commit alone changes that: before it the node that it leaves keeps everything and wakes
 * nothing, after it the other one has all of it, read back and compared, and what is left behind is ended. So at no moment two nodes own it, and none is
 * without a whole image; whatever is cut short is taken up again, or cancelled and the first node told that it stays.
 */
import {
  fetchInstance,
  leaveInstance,
  nodeFacts,
  stayInstance,
  type NodeId,
  type Route,
  type Sandbox,
  type Volume,
} from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { missingAt } from '@torpor/policy';
import type { Move } from '@torpor/store';
import type { Endings } from '../changes/endings.ts';
import type { Births } from '../creation/births.ts';
import { refusal } from '../creation/refusal.ts';
import type { FleetView } from '../fleet/fleet-view.ts';
import { isSilence } from '../fleet/lanes.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';

export interface Moved {
  readonly sandbox: Sandbox;
  readonly route: Route;
  readonly from: NodeId;
  readonly bytes: number;
  readonly tookMs: number;
}

interface Around {
  readonly fleet: FleetView;
  readonly births: Births;
  readonly endings: Endings;
  readonly hints: RouteHints;
}

/** Of one step, when its node is away or in trouble. */
const ATTEMPTS = 5;
const PAUSE_MS = 500;
/** A move that was begun so long ago and that nobody here carries out: whoever began it may be gone. */
const ORPHANED_MS = 10_000;

export class Mover {
  readonly #parts: Parts;
  readonly #around: Around;
  readonly #underWay = new Map<string, Promise<Moved>>();

  constructor(parts: Parts, around: Around) {
    this.#parts = parts;
    this.#around = around;
  }

  /** Rejects with what stands against it; the sandbox then lives where it did. `to` absent: where there is room. */
  async move(sandbox: Sandbox, to: NodeId | undefined, reason: string): Promise<Moved> {
    if (sandbox.nodeId === to) throw new Failure('conflict', `the sandbox "${sandbox.name}" lives on node "${to}"`);
    const { store, clock } = this.#parts;
    const volumes = await store.volumes.of(sandbox.instanceId);
    if (volumes.length > 0) throw bound(sandbox.name, volumes);
    const target = await this.#target(sandbox, to);
    const begun = await store.moves.begin(sandbox, { to: target, reason, atMs: clock.nowMs() });
    if (!begun) throw changed(sandbox.name);
    if (begun.move.cancelled !== undefined || begun.move.to !== target) {
      void this.#settle(begun.move);
      const why = begun.move.cancelled ?? `it is on its way to node "${begun.move.to}" already`;
      throw new Failure('conflict', `the sandbox "${sandbox.name}" cannot move now: ${why}`, { retryable: true });
    }
    return await this.#carry(begun.move);
  }

  /** Takes up what nobody carries out any more. */
  async takeUp(): Promise<void> {
    const { store, clock } = this.#parts;
    for (const move of await store.moves.open()) {
      if (this.#underWay.has(move.instanceId)) continue;
      if (move.cancelled === undefined && clock.nowMs() - move.sinceMs < ORPHANED_MS) continue;
      void this.#settle(move);
    }
  }

  /** What becomes of it is told by its events. */
  async #settle(move: Move): Promise<void> {
    try {
      if (move.cancelled === undefined) await this.#carry(move);
      else await this.#tellStays(move);
    } catch (error) {
      if (!this.#parts.closing.aborted) this.#parts.events.trouble('move', explain(error));
    }
  }

  #carry(move: Move): Promise<Moved> {
    const there = this.#underWay.get(move.instanceId);
    if (there) return there;
    const work = this.#carryOut(move).finally(() => this.#underWay.delete(move.instanceId));
    this.#underWay.set(move.instanceId, work);
    return work;
  }

  async #carryOut(move: Move): Promise<Moved> {
    const { clock, events } = this.#parts;
    const since = clock.monotonicMs();
    let bytes = 0;
    try {
      bytes = await this.#patiently(() => this.#bring(move));
      const sandbox = await this.#parts.store.moves.commit(move, clock.nowMs());
      if (!sandbox) throw changed(move.name);
      const tookMs = clock.monotonicMs() - since;
      events.moved(sandbox, { from: move.from, bytes, tookMs });
      return { ...this.#told(sandbox, move), bytes, tookMs };
    } catch (error) {
      const reason = explain(error);
      // Should the commit have been made and only its answer lost, there is nothing to cancel.
      const cancelled = await this.#parts.store.moves.cancel(move, { reason, atMs: clock.nowMs() });
      if (cancelled) {
        events.notMoved(move, reason);
        await this.#tellStays(cancelled);
        throw notMoved(move, error);
      }
      const now = await this.#parts.store.wanted.living(move.workspace, move.name);
      if (now?.generation !== move.nextGeneration) throw changed(move.name);
      return { ...this.#told(now, move), bytes, tookMs: clock.monotonicMs() - since };
    }
  }

  /** All of it is at the other node when this resolves, and nowhere owned but here. */
  async #bring({ instanceId, generation, nextGeneration, from, to }: Move): Promise<number> {
    const { wire, closing: signal } = this.#parts;
    const [source, target] = (await Promise.all(
      [from, to].map((node) => wire.ask(nodeFacts, {}, { node, signal })),
    )) as [Facts, Facts]; // two go in
    const url = this.#around.fleet.urlOf(from);
    if (url === undefined) throw new Failure('unavailable', `node "${from}" was not heard of yet`, { retryable: true });
    await wire.ask(leaveInstance, { instanceId, generation, to, key: target.key }, { node: from, signal });
    const origin = { nodeId: from, url, generation, key: source.key };
    const ask = { instanceId, generation: nextGeneration, from: origin };
    return (await wire.ask(fetchInstance, ask, { node: to, signal })).bytes;
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    const { clock, closing } = this.#parts;
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const mayPass = error instanceof Failure && error.retryable && error.code !== 'no_space';
        if (closing.aborted || attempt === ATTEMPTS || !(mayPass || isSilence(error))) throw error;
        await clock.after(PAUSE_MS * 2 ** (attempt - 1), closing);
      }
    }
  }

  async #tellStays(move: Move): Promise<void> {
    const { wire, store, closing: signal } = this.#parts;
    const { instanceId, generation, nextGeneration, from, to } = move;
    const reason = `its move was cancelled: ${move.cancelled ?? 'unknown'}`;
    this.#around.endings.beginInBackground({ instanceId, generation: nextGeneration, nodeId: to, reason });
    try {
      await wire.ask(stayInstance, { instanceId, generation }, { node: from, signal });
      await store.moves.over(move);
    } catch (error) {
      // Repair asks again.
      if (!signal.aborted) this.#parts.events.trouble('cancelled move', explain(error));
    }
  }

  #told(sandbox: Sandbox, { generation: left, from, reason }: Move) {
    const { instanceId, generation, nodeId } = sandbox;
    const nodeUrl = this.#around.fleet.urlOf(nodeId);
    if (nodeUrl === undefined) throw new Error(`node ${nodeId} has fetched an instance and was never heard of`);
    const route = { instanceId, generation, nodeId, nodeUrl };
    this.#around.hints.tell(sandbox, route);
    this.#around.endings.beginInBackground({ instanceId, generation: left, nodeId: from, reason });
    return { sandbox, route, from };
  }

  /** A node that could wake it; nothing is changed by looking. */
  async #target(sandbox: Sandbox, to: NodeId | undefined): Promise<NodeId> {
    const here = await this.#factsOf(sandbox.nodeId);
    const unfit = new Map<NodeId, string>([[sandbox.nodeId, 'it lives there']]);
    for (;;) {
      const placement = this.#around.births.place(sandbox, [...unfit.keys()], to);
      if (placement.kind === 'refused') {
        unfit.delete(sandbox.nodeId);
        const whys = [...unfit].map(([node, why]) => `node "${node}" is missing ${why}`);
        if (whys.length === 0) throw refusal(`the sandbox "${sandbox.name}" cannot move`, placement);
        throw new Failure('unprocessable', `the sandbox "${sandbox.name}" cannot move: ${whys.join('; ')}`);
      }
      const { nodeId } = placement;
      const missing = missingAt((await this.#factsOf(nodeId)).make, here.make, sandbox.template);
      if (missing.length === 0) return nodeId;
      unfit.set(nodeId, missing.join(', '));
    }
  }

  #factsOf(node: NodeId): Promise<Facts> {
    return this.#parts.wire.ask(nodeFacts, {}, { node, signal: this.#parts.closing });
  }
}

type Facts = ReturnType<typeof nodeFacts.reply.parse>;

function bound(name: string, volumes: readonly Volume[]): Failure {
  const which = volumes.map((volume) => `"${volume.name}"`).join(', ');
  const message = `the sandbox "${name}" cannot move: it has ${which}, and volumes do not travel; detach them first`;
  return new Failure('unprocessable', message);
}

function changed(name: string): Failure {
  return new Failure('conflict', `the sandbox "${name}" is not ready, or changed while it was to move`, {
    retryable: true,
  });
}

function notMoved({ name, from, to }: Move, cause: unknown): Failure {
  const code = cause instanceof Failure ? cause.code : 'internal';
  const retryable = cause instanceof Failure && cause.retryable;
  return new Failure(
    code,
    `the sandbox "${name}" did not move to node "${to}" and lives on "${from}": ${explain(cause)}`,
    {
      retryable,
      cause,
    },
  );
}
