import type { InstanceState } from '@torpor/contracts';
import type { Failure } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';
import type { UseKind } from './uses.ts';

/** What a stay asks of its instance. */
export interface StayHost {
  readonly guest: Guest;
  change(from: UseKind, to: UseKind): void;
  moved(bytes: { fromClient: number; fromInstance: number }): void;
  leave(stay: Stay, kind: UseKind): void;
}

/** One request's time inside an instance, from its entry until its answer has ended. */
export class Stay {
  /** What it found on arrival: `running`, or what it woke it from. */
  readonly found: InstanceState;
  /** How long the request was held, in ms; known once it is awake. */
  heldMs = 0;
  /** While it is held: resolves when the instance is awake, rejects when the request is turned away. */
  awake: Promise<void> | undefined;
  /** Called when the instance ends or is fenced: whoever streams must break off with this failure. */
  onEnd: ((failure: Failure) => void) | undefined;
  readonly #host: StayHost;
  #kind: UseKind;
  #left = false;

  constructor(host: StayHost, kind: UseKind, found: InstanceState) {
    this.#host = host;
    this.#kind = kind;
    this.found = found;
  }

  get guest(): Guest {
    return this.#host.guest;
  }

  /** A request turned out to be a stream, or an upgraded socket of a preview. */
  become(kind: UseKind): void {
    if (this.#left || kind === this.#kind) return;
    this.#host.change(this.#kind, kind);
    this.#kind = kind;
  }

  /** Bytes on a preview's socket. Those from the client wake a sleeping instance. */
  moved(bytes: { fromClient: number; fromInstance: number }): void {
    if (!this.#left && this.#kind === 'preview') this.#host.moved(bytes);
  }

  /** Twice is once. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#host.leave(this, this.#kind);
  }
}
