/**
 * Bringing a sandbox into being on a node. A *birth* begins with a row in phase creating and ends with the row ready, moved to another node and ready
 * there, or given up. Each step is fenced by the incarnation, so that births of two schedulers, or of one before and after its death, cannot harm each
 * other: starting is idempotent on the node, and only one commit makes the row ready.
 */
import { newInstanceId, startInstance, type NodeId, type Route, type Sandbox } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { place, type Placement } from '@torpor/policy';
import type { Endings } from '../changes/endings.ts';
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
  readonly deadlineAtMs: number;
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

  place(ask: Pick<Sandbox, 'template' | 'shape'>, avoid: readonly NodeId[] = []): Placement {
    const { template, shape } = ask;
    const nowMs = this.#parts.clock.nowMs();
    const placement = place(this.#fleet.nodes(), { template, shape, nowMs, avoid });
    if (placement.kind === 'placed') this.#fleet.placed(placement.nodeId, { template, shape, nowMs });
    return placement;
  }

  /** Rejects with a Failure when no node would have it; the row is settled by then and what may have begun is to be ended. */
  async bring({ env, deadlineAtMs, traceparent, ...ask }: BirthAsk): Promise<Birth> {
    let { sandbox } = ask;
    const refusedBy: NodeId[] = [];
    for (;;) {
      try {
        const { from } = await this.#start(sandbox, { env, deadlineAtMs, traceparent });
        const ready = await this.#parts.store.wanted.becameReady(sandbox, this.#parts.clock.nowMs());
        const now = ready ?? (await this.#whatItIsNow(sandbox));
        return { sandbox: now, route: this.#routeOf(now), from, attempts: refusedBy.length + 1 };
      } catch (error) {
        if (!(error instanceof StartFailure)) throw error;
        this.#parts.events.attemptFailed(sandbox, { code: error.failure.code, reason: explain(error.failure) });
        refusedBy.push(sandbox.nodeId);
        const next =
          isWorthAnotherNode(error.failure) && this.#hasTime(deadlineAtMs)
            ? await this.#moveOn(sandbox, refusedBy)
            : undefined;
        if (!next) throw await this.#giveUp(sandbox, error.failure);
        sandbox = next;
      }
    }
  }

  async #start(sandbox: Sandbox, how: { env: Env; deadlineAtMs: number; traceparent: string | undefined }) {
    const { instanceId, generation, workspace, name, template, shape, idle, nodeId } = sandbox;
    const { clock, times, wire, closing } = this.#parts;
    const deadlineMs = Math.max(1, how.deadlineAtMs - clock.nowMs() - times.answerMarginMs);
    const body = { instanceId, generation, workspace, name, template, shape, idle, env: { ...how.env } };
    const options = {
      node: nodeId,
      deadlineMs,
      signal: closing,
      ...(how.traceparent ? { traceparent: how.traceparent } : {}),
    };
    try {
      return await wire.ask(startInstance, body, options);
    } catch (error) {
      if (closing.aborted)
        throw new Failure('unavailable', 'the scheduler is being restarted', { retryable: true, cause: error });
      if (error instanceof Failure) throw new StartFailure(error);
      throw error;
    }
  }

  /** The row was changed while the node worked: by another birth of the same incarnation, or by a delete. */
  async #whatItIsNow(sandbox: Sandbox): Promise<Sandbox> {
    const now = await this.#parts.store.wanted.living(sandbox.workspace, sandbox.name);
    if (now?.phase === 'ready' && now.instanceId === sandbox.instanceId && now.generation === sandbox.generation)
      return now;
    // The start may have taken effect after the node was told to end it, so it is told once more.
    this.#endings.beginInBackground({ ...sandbox, reason: 'ended while it was being created' });
    throw new Failure('conflict', `the sandbox "${sandbox.name}" was ended while it was being created`, {
      retryable: true,
    });
  }

  #routeOf({ instanceId, generation, nodeId }: Sandbox): Route {
    const nodeUrl = this.#fleet.urlOf(nodeId);
    if (nodeUrl === undefined) throw new Error(`node ${nodeId} has started an instance and was never heard of`);
    return { instanceId, generation, nodeId, nodeUrl };
  }

  #hasTime(deadlineAtMs: number): boolean {
    return deadlineAtMs - this.#parts.clock.nowMs() >= this.#parts.times.anotherTryMs;
  }

  /** The next incarnation, on a node that has not been asked yet. The old one is to be ended: it may have begun. */
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
    });
    if (moved) this.#endings.beginInBackground({ ...sandbox, reason });
    return moved;
  }

  /** A row that nobody was ever told of goes; one that was answered once stays and says what befell it. */
  async #giveUp(sandbox: Sandbox, failure: Failure): Promise<Failure> {
    const { store, clock, events } = this.#parts;
    const more = { reason: `it could not be started: ${failure.message}`, atMs: clock.nowMs() };
    const failed = (await store.wanted.abandon(sandbox, more)) ? undefined : await store.wanted.fail(sandbox, more);
    if (failed) events.failed(failed);
    this.#endings.beginInBackground({ ...sandbox, reason: more.reason });
    return new Failure(failure.code, `the sandbox "${sandbox.name}" could not be started: ${failure.message}`, {
      retryable: failure.retryable,
      ...(failure.retryAfterS === undefined ? {} : { retryAfterS: failure.retryAfterS }),
      ...(failure.details === undefined ? {} : { details: failure.details }),
      cause: failure,
    });
  }
}

class StartFailure extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message, { cause: failure });
    this.failure = failure;
  }
}

/** A mistake of the caller's is one on every node. */
const CALLERS = new Set(['bad_request', 'unprocessable', 'forbidden', 'too_large', 'not_implemented']);

function isWorthAnotherNode(failure: Failure): boolean {
  return !CALLERS.has(failure.code);
}
