/**
 * Bringing a sandbox into being on a node. A *birth* begins with a row in phase creating and ends with the row ready, moved to another node and ready
 * there, or given up. Each step is fenced by the incarnation, so that births of two schedulers, or of one before and after its death, cannot harm each
 * other: starting is idempotent on the node, and only one commit makes the row ready.
 */
import { newInstanceId, startInstance, type NodeId, type Route, type Sandbox, type Volume } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { place, type Placement } from '@torpor/policy';
import type { Endings } from '../changes/endings.ts';
import { policyOf } from '../changes/policy.ts';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';
import { nextGeneration } from './new-sandbox.ts';

type Env = Readonly<Record<string, string>>;

export interface Birth {
  readonly sandbox: Sandbox;
  readonly route: Route;
  readonly from: string;
  readonly attempts: number;
}

interface BirthAsk {
  readonly sandbox: Sandbox;
  readonly env: Env;
  /** Of the monotonic clock. */
  readonly untilMs: number;
  readonly traceparent?: string | undefined;
}

export class Births {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  readonly #endings: Endings;

  constructor(parts: Parts, fleet: FleetView, endings: Endings) {
    this.#parts = parts;
    this.#fleet = fleet;
    this.#endings = endings;
  }

  /** `only`: what it is made from is there. */
  place(ask: Pick<Sandbox, 'template' | 'shape'>, avoid: readonly NodeId[] = [], only?: NodeId): Placement {
    const { template, shape } = ask;
    const nowMs = this.#parts.clock.nowMs();
    const nodes = this.#fleet.nodes().filter(({ id }) => only === undefined || id === only);
    const placement = place(nodes, { template, shape, nowMs, avoid });
    if (placement.kind === 'placed') this.#fleet.placed(placement.nodeId, { template, shape, nowMs });
    return placement;
  }

  /** Rejects with a Failure when no node would have it; the row is settled by then and what may have begun is to be ended. */
  async bring({ env, untilMs, traceparent, ...ask }: BirthAsk): Promise<Birth> {
    let [{ sandbox }, mine] = [ask, env];
    const refusedBy: NodeId[] = [];
    for (;;) {
      const start = await this.#start(sandbox, { env: mine, untilMs, traceparent });
      if (start.kind === 'refused') refusedBy.push(sandbox.nodeId);
      const now =
        start.kind === 'started'
          ? await this.#madeReady(sandbox, untilMs)
          : await this.#tryOn(sandbox, start.failure, { refusedBy, untilMs });
      if (now.phase === 'ready') {
        const from = start.kind === 'started' ? start.from : 'existing';
        return { sandbox: now, route: await this.#routeOf(now), from, attempts: refusedBy.length + 1 };
      }
      mine = (await this.#parts.store.wanted.envOf(now)) ?? mine;
      sandbox = now;
    }
  }

  async #start(sandbox: Sandbox, how: { env: Env; untilMs: number; traceparent: string | undefined }) {
    const { instanceId, generation, workspace, name, template, shape, nodeId, origin } = sandbox;
    const { clock, times, wire, store, closing } = this.#parts;
    const policy = await policyOf(store, sandbox);
    const deadlineMs = Math.max(1, how.untilMs - clock.monotonicMs() - times.answerMarginMs);
    const from = origin && { instanceId: origin.instanceId, snapshot: origin.snapshot };
    const volumes = (await store.volumes.of(instanceId)).flatMap(asAttached);
    const what = {
      template,
      shape,
      ...policy,
      env: { ...how.env },
      ...(from ? { from } : {}),
      ...(volumes.length > 0 ? { volumes } : {}),
    };
    const body = { instanceId, generation, workspace, name, ...what };
    const options = {
      node: nodeId,
      deadlineMs,
      signal: closing,
      ...(how.traceparent ? { traceparent: how.traceparent } : {}),
    };
    try {
      const started = await wire.ask(startInstance, body, options);
      return { kind: 'started' as const, from: started.from };
    } catch (error) {
      if (closing.aborted)
        throw new Failure('unavailable', 'the scheduler is being restarted', { retryable: true, cause: error });
      if (!(error instanceof Failure)) throw error;
      this.#parts.events.attemptFailed(sandbox, { code: error.code, reason: explain(error) });
      return { kind: 'refused' as const, failure: error };
    }
  }

  async #madeReady(sandbox: Sandbox, untilMs: number): Promise<Sandbox> {
    const { store, clock } = this.#parts;
    await store.volumes.attachedWith(sandbox.instanceId, clock.nowMs());
    return (await store.wanted.becameReady(sandbox, clock.nowMs())) ?? (await this.#follow(sandbox, untilMs));
  }

  /** The row was changed while the node worked: by a birth of another scheduler, which is followed wherever it took it, or by a delete. */
  async #follow(sandbox: Sandbox, untilMs: number): Promise<Sandbox> {
    const { name, workspace, createdAtMs, generation } = sandbox;
    const now = await this.#parts.store.wanted.living(workspace, name);
    if (now && isSame(now, sandbox)) return now;
    // The start may have taken effect after the node was told to end it, so it is told once more.
    this.#endings.beginInBackground({ ...sandbox, reason: 'ended while it was being created' });
    // A new sandbox of the name would begin with the first generation again.
    const isNext = now?.createdAtMs === createdAtMs && now.generation > generation;
    if (isNext && (now.phase === 'ready' || this.#hasTime(untilMs))) return now;
    const what = isNext ? 'is still being started on another node' : 'was ended while it was being created';
    throw new Failure('conflict', `the sandbox "${name}" ${what}`, { retryable: true });
  }

  async #routeOf({ instanceId, generation, nodeId }: Sandbox): Promise<Route> {
    if (this.#fleet.urlOf(nodeId) === undefined) await this.#fleet.refresh(this.#parts.store); // another scheduler heard it
    const nodeUrl = this.#fleet.urlOf(nodeId);
    if (nodeUrl === undefined) throw new Error(`node ${nodeId} has started an instance and was never heard of`);
    return { instanceId, generation, nodeId, nodeUrl };
  }

  #hasTime(untilMs: number): boolean {
    return untilMs - this.#parts.clock.monotonicMs() >= this.#parts.times.anotherTryMs;
  }

  /** Its node did not start it: the next incarnation is made for another one, unless nothing speaks for that. */
  async #tryOn(
    sandbox: Sandbox,
    failure: Failure,
    { refusedBy, untilMs }: { refusedBy: readonly NodeId[]; untilMs: number },
  ): Promise<Sandbox> {
    const isBound = sandbox.origin !== undefined || (await this.#parts.store.volumes.of(sandbox.instanceId)).length > 0;
    const canMove = !isBound && isWorthAnotherNode(failure) && this.#hasTime(untilMs);
    const moved = canMove ? await this.#moveOn(sandbox, refusedBy) : undefined;
    if (moved) return moved;
    if (await this.#gaveUp(sandbox, failure)) throw notStarted(sandbox, failure);
    // Another scheduler's birth of it came first. Should that have been lucky, it is somebody's already and must not be ended.
    return this.#follow(sandbox, untilMs);
  }

  /** The old incarnation is to be ended: it may have begun. */
  async #moveOn(sandbox: Sandbox, refusedBy: readonly NodeId[]): Promise<Sandbox | undefined> {
    const placement = this.place(sandbox, refusedBy);
    if (placement.kind === 'refused') return undefined;
    const { store, clock, chance } = this.#parts;
    const reason = 'its node did not start it; another one was asked';
    const moved = await store.wanted.supersede(sandbox, {
      instanceId: newInstanceId(chance),
      generation: nextGeneration(sandbox),
      nodeId: placement.nodeId,
      atMs: clock.nowMs(),
      reason,
      from: 'creating',
    });
    if (moved) this.#endings.beginInBackground({ ...sandbox, reason });
    return moved;
  }

  /** A row that nobody was ever told of goes; one that was answered once stays and says what befell it. False: it is no longer being created. */
  async #gaveUp(sandbox: Sandbox, failure: Failure): Promise<boolean> {
    const { store, clock, events } = this.#parts;
    const more = { reason: `it could not be started: ${failure.message}`, atMs: clock.nowMs() };
    const gone = await store.wanted.abandon(sandbox, more);
    const failed = gone ? undefined : await store.wanted.fail(sandbox, { ...more, from: 'creating' });
    if (failed) events.failed(failed);
    if (!gone && !failed) return false;
    this.#endings.beginInBackground({ ...sandbox, reason: more.reason });
    return true;
  }
}

/** A fork's own is made with it, as a copy of what its parent's snapshot holds. */
function asAttached({ id, generation, attachment, origin, isForks, phase, sizeMib }: Volume) {
  if (!attachment) return [];
  const own = isForks && origin && phase === 'creating' ? { copy: { of: origin.volume, sizeMib } } : {};
  return [{ volume: id, generation, path: attachment.path, ...own }];
}

function notStarted({ name }: Sandbox, failure: Failure): Failure {
  return new Failure(failure.code, `the sandbox "${name}" could not be started: ${failure.message}`, {
    retryable: failure.retryable,
    ...(failure.retryAfterS === undefined ? {} : { retryAfterS: failure.retryAfterS }),
    ...(failure.details === undefined ? {} : { details: failure.details }),
    cause: failure,
  });
}

function isSame(a: Sandbox, b: Sandbox): boolean {
  return a.instanceId === b.instanceId && a.generation === b.generation;
}

/** A mistake of the caller's is one on every node. */
const CALLERS = new Set(['bad_request', 'unprocessable', 'forbidden', 'too_large', 'not_implemented']);

function isWorthAnotherNode(failure: Failure): boolean {
  return !CALLERS.has(failure.code);
}
