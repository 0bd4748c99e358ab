/** The requests of one instance: let in while it runs, held while it is on its way there, and told when it ends. */
import type { Clock, Failure } from '@torpor/kernel';
import { hasQueuedWake, reported, type StandbyState } from '@torpor/policy';
import type { Guest } from '@torpor/runtime';
import { Held } from './held.ts';
import { Stay, type StayHost } from './stay.ts';
import type { Uses, UseKind } from './uses.ts';

const WAKE_HOLD_MS = 15_000;

/** The instance that is visited. */
export interface Visited {
  guest(): Guest;
  state(): StandbyState;
  /** Something needs it awake. What follows has begun when this returns. */
  arrived(): void;
  /** Nothing holds it awake any more. */
  released(): void;
  refusal(): Failure;
}

export class Visits implements StayHost {
  readonly #clock: Clock;
  readonly #uses: Uses;
  readonly #visited: Visited;
  readonly #held: Held;
  readonly #stays = new Set<Stay>();
  #emptied: PromiseWithResolvers<void> | undefined;

  constructor(clock: Clock, uses: Uses, visited: Visited) {
    this.#clock = clock;
    this.#uses = uses;
    this.#visited = visited;
    this.#held = new Held(clock);
  }

  get guest(): Guest {
    return this.#visited.guest();
  }

  /** How many wait for it to be awake. */
  get held(): number {
    return this.#held.count;
  }

  /** How many are in it. */
  get inside(): number {
    return this.#stays.size;
  }

  /** Throws when it cannot be awake; else the stay says when it is. Whoever approaches must leave. */
  approach(kind: UseKind, signal?: AbortSignal): Stay {
    const stay = new Stay(this, kind, reported(this.#visited.state()));
    this.#uses.begin(kind);
    this.#visited.arrived();
    const state = this.#visited.state();
    if (state === 'running') {
      this.#stays.add(stay);
    } else if (state === 'creating' || willWake(state)) {
      stay.awake = this.#hold(stay, signal);
    } else {
      this.#uses.end(kind);
      throw this.#visited.refusal();
    }
    return stay;
  }

  letIn(): void {
    this.#held.letIn();
  }

  turnAway(failure: Failure): void {
    this.#held.turnAway(failure);
  }

  /** Resolves when none is in it any more, or when so much time has passed. */
  async emptied(withinMs: number): Promise<void> {
    if (this.#stays.size === 0) return;
    this.#emptied ??= Promise.withResolvers();
    const bell = new AbortController();
    await Promise.race([this.#emptied.promise, this.#clock.after(withinMs, bell.signal).catch(() => {})]); // it rings
    bell.abort(new Error('they have left'));
  }

  endStreams(failure: Failure): void {
    for (const stay of this.#stays) stay.onEnd?.(failure);
  }

  change(from: UseKind, to: UseKind): void {
    this.#uses.begin(to);
    this.#end(from);
  }

  moved(bytes: { fromClient: number; fromInstance: number }): void {
    this.#uses.bytes(bytes);
    if (bytes.fromClient > 0 && this.#visited.state() !== 'running') {
      this.#uses.touch();
      this.#visited.arrived();
    }
  }

  leave(stay: Stay, kind: UseKind): void {
    this.#stays.delete(stay);
    if (this.#stays.size === 0) {
      this.#emptied?.resolve();
      this.#emptied = undefined;
    }
    this.#end(kind);
  }

  #end(kind: UseKind): void {
    this.#uses.end(kind);
    if (!this.#uses.holds) this.#visited.released();
  }

  async #hold(stay: Stay, signal: AbortSignal | undefined): Promise<void> {
    const since = this.#clock.monotonicMs();
    const name = `hold of a request while the sandbox is ${stay.found}`;
    try {
      await this.#held.wait({ name, ms: WAKE_HOLD_MS }, signal);
      // Between its turn and now it may have been put to sleep or ended again.
      if (this.#visited.state() !== 'running') await this.#holdAgain(signal);
    } catch (error) {
      stay.leave();
      throw error;
    }
    stay.heldMs = this.#clock.monotonicMs() - since;
    this.#stays.add(stay);
  }

  /** Its turn came and went: the instance was put to sleep, or ended, before this request went on. It waits once more. */
  async #holdAgain(signal: AbortSignal | undefined): Promise<void> {
    this.#visited.arrived();
    if (willWake(this.#visited.state())) {
      await this.#held.wait({ name: 'second hold of a request', ms: WAKE_HOLD_MS }, signal);
    }
    if (this.#visited.state() !== 'running') throw this.#visited.refusal();
  }
}

function willWake(state: StandbyState): boolean {
  return state === 'waking' || state === 'restoring' || isAway(state) || hasQueuedWake(state);
}

/** On its way to another node: whoever waits is let in when it stays, and sent on when it has left. */
function isAway(state: StandbyState): boolean {
  return state === 'leaving' || state === 'travelling';
}
