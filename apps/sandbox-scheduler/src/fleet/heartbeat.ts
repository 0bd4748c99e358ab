import { describeInstance, setInstancePolicy, type Generation, type heartbeat, type NodeId } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import type { Holding, NodeRecord } from '@torpor/store';
import type { z } from 'zod';
import type { Endings } from '../changes/endings.ts';
import type { Parts } from '../parts.ts';
import type { FleetView } from './fleet-view.ts';
import { isSilence, Lanes, type Heard } from './lanes.ts';
import { judge, strangers } from './verdict.ts';

type Beat = z.infer<typeof heartbeat.request>;
type Answer = z.infer<typeof heartbeat.reply>;

/** A node that was silent for this long does not count when it is asked whether the fleet is a single node. */
const FORGOTTEN_MS = 600_000;
const WRITE_MS = 1_000;

/** Hears nodes out: renews leases, tells them what they must end, and notices what they have lost. */
export class Heartbeats {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  readonly #endings: Endings;
  readonly #written = new Map<NodeId, NodeRecord>();
  /** Incarnations missing from their node's last report. One report may be older than the creation; two in a row are looked into. */
  readonly #missing = new Map<NodeId, ReadonlySet<string>>();
  readonly #questions: Lanes;
  readonly #policies: Lanes;

  constructor(parts: Parts, fleet: FleetView, endings: Endings) {
    this.#parts = parts;
    this.#fleet = fleet;
    this.#endings = endings;
    this.#questions = new Lanes(parts.closing, (error) => parts.events.trouble('missing instance', explain(error)));
    this.#policies = new Lanes(parts.closing, (error) => parts.events.trouble('policy', explain(error)));
  }

  async hear(beat: Beat): Promise<Answer> {
    const { store, clock, events } = this.#parts;
    const nowMs = clock.nowMs();
    const leaseMs = this.#isAlone(beat.nodeId, nowMs) ? 0 : this.#parts.times.leaseMs;
    const { instances, nodeId: id, ...rest } = beat;
    const record: NodeRecord = { id, ...rest, heardAtMs: nowMs, leaseUntilMs: leaseMs === 0 ? 0 : nowMs + leaseMs };
    try {
      const [onNode] = await Promise.all([store.wanted.onNode(id), this.#write(record)]);
      const strange = strangers(instances, onNode);
      const [endings, moves] =
        strange.length > 0
          ? await Promise.all([store.wanted.endings({ instanceIds: strange }), store.moves.open()])
          : [[], []];
      const moving = new Set(moves.map(({ instanceId }) => instanceId));
      this.#fleet.heard(
        record,
        onNode.reduce((sum, one) => sum + (one.phase === 'failed' ? 0 : one.memoryMib), 0),
      );
      const verdict = judge(instances, { onNode, endings, nowMs });
      events.orphans(
        id,
        verdict.orphans.map((orphan) => orphan.instanceId).filter((one) => !moving.has(one)),
      );
      for (const one of verdict.unwanted) events.unwanted({ ...one, nodeId: id });
      await store.wanted.noteUse(verdict.used);
      this.#lookInto(id, verdict.missing);
      for (const { sandbox, reason } of verdict.broken) await this.#keep(sandbox, reason);
      for (const sandbox of verdict.misled) this.#setRight(sandbox);
      for (const { sandbox, generation } of verdict.ahead) await this.#catchUp(sandbox, generation);
      const unwanted = verdict.unwanted.map(({ instanceId, generation, keep }) => ({
        instanceId,
        generation,
        ...(keep ? { keep: [...keep] } : {}),
      }));
      return { leaseMs, unwanted };
    } catch (error) {
      // A database that is away stops changes, not use: a single node needs no lease and goes on. With several, none is renewed off the record.
      if (leaseMs !== 0 || !(error instanceof Failure && error.code === 'unavailable')) throw error;
      events.trouble('heartbeat', explain(error));
      return { leaseMs, unwanted: [] };
    }
  }

  /** A node that needs no lease and beats often, as during a burst of creates, is not written down each time: nothing depends on it. */
  async #write(record: NodeRecord): Promise<void> {
    const before = this.#written.get(record.id);
    const isFresh = before?.url === record.url && record.heardAtMs - before.heardAtMs < WRITE_MS;
    if (isFresh && record.leaseUntilMs === 0 && before.leaseUntilMs === 0) return;
    await this.#parts.store.fleet.heard(record);
    this.#written.set(record.id, record);
  }

  #isAlone(id: NodeId, nowMs: number): boolean {
    return !this.#fleet.nodes().some((node) => node.id !== id && nowMs - node.heardAtMs < FORGOTTEN_MS);
  }

  #lookInto(nodeId: NodeId, missing: readonly Holding[]): void {
    const before = this.#missing.get(nodeId) ?? new Set();
    this.#missing.set(nodeId, new Set(missing.map(keyOf)));
    for (const sandbox of missing.filter((one) => before.has(keyOf(one)))) {
      this.#questions.add(sandbox, () => this.#toldIfSilent('missing instance', () => this.#makeSure(sandbox)));
    }
  }

  /** Asks the node itself, now: a report may have been long on its way, an answer to this cannot be older than the question. */
  async #makeSure(sandbox: Holding): Promise<void> {
    const { instanceId, nodeId, generation } = sandbox;
    const { instance } = await this.#parts.wire.ask(
      describeInstance,
      { instanceId },
      { node: nodeId, signal: this.#parts.closing },
    );
    const holds = instance?.generation === generation && instance.state !== 'deleting' && instance.state !== 'deleted';
    if (!holds) await this.#fail(sandbox, 'its node no longer has it');
  }

  /** Should it fail, the next report shows it again. */
  #setRight(sandbox: Holding): void {
    const { instanceId, generation, idle, wakeBudget, nodeId } = sandbox;
    const policy = { idle, ...(wakeBudget ? { wakeBudget } : {}) };
    const { wire, events, closing } = this.#parts;
    const tell = async () => {
      await wire.ask(setInstancePolicy, { instanceId, generation, ...policy }, { node: nodeId, signal: closing });
      events.repaired('policy', { instanceId });
    };
    this.#policies.add(sandbox, () => this.#toldIfSilent('policy', tell));
  }

  /** Or whoever asks for the sandbox goes by a generation that its node has left behind. */
  async #catchUp(sandbox: Holding, generation: Generation): Promise<void> {
    const { store, clock, events } = this.#parts;
    const raised = await store.wanted.raise(sandbox, { generation, atMs: clock.nowMs() });
    if (raised) events.repaired('generation', { instanceId: raised.instanceId });
  }

  async #toldIfSilent(where: string, work: () => Promise<void>): Promise<Heard> {
    try {
      await work();
      return 'answered';
    } catch (error) {
      if (!isSilence(error)) throw error;
      this.#parts.events.trouble(where, explain(error));
      return 'silent';
    }
  }

  /** Its processes are gone, its files are not: they stay until somebody deletes it. */
  async #keep(sandbox: Holding, reason: string): Promise<void> {
    const failed = await this.#parts.store.wanted.failKept(sandbox, { reason, atMs: this.#parts.clock.nowMs() });
    if (failed) this.#parts.events.failed(failed);
  }

  async #fail(sandbox: Holding, reason: string): Promise<void> {
    const failed = await this.#parts.store.wanted.fail(sandbox, { reason, atMs: this.#parts.clock.nowMs() });
    if (!failed) return; // it has moved on meanwhile
    this.#parts.events.failed(failed);
    this.#endings.beginInBackground({ ...sandbox, reason });
  }
}

function keyOf(sandbox: Holding): string {
  return `${sandbox.instanceId}/${sandbox.generation}`;
}
