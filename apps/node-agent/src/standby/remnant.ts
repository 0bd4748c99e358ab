/** What is left of an instance that has ended: the snapshots that were to outlive it, and what it was made of. Nothing of it runs, or will. */
import { Failure } from '@torpor/kernel';
import { Shelving } from '../images/shelving.ts';
import type { Claim, Shelf, Spec } from '../journal/index.ts';
import type { Body, Parts } from '../parts.ts';
import { Line } from './line.ts';
import { Snapshots } from './snapshots.ts';

export class Remnant {
  readonly claim: Claim;
  readonly spec: Spec;
  readonly snapshots: Snapshots;
  readonly #parts: Parts;
  readonly #hostId: Body['hostId'];
  readonly #shelving: Shelving;

  constructor(parts: Parts, left: { body: Body; claim: Claim; spec: Spec; shelf: Shelf }) {
    const { claim, spec, body, shelf } = left;
    this.#parts = parts;
    this.claim = claim;
    this.spec = spec;
    this.#hostId = body.hostId;
    this.#shelving = new Shelving(parts, () => body.hostId, shelf);
    const refusal = () => new Failure('gone', `the sandbox "${claim.name}" has ended; only snapshots of it are left`);
    const refuse = () => Promise.reject(refusal());
    this.snapshots = new Snapshots(parts, this.#shelving, {
      line: new Line(),
      state: () => 'deleted',
      sleeper: () => {
        throw refusal();
      },
      who: () => ({ instanceId: claim.instanceId, generation: claim.generation, workspace: claim.workspace }),
      happen: () => {
        throw refusal();
      },
      limits: () => undefined,
      count: refuse,
      raised: refuse,
      wake: refuse,
      refusal,
    });
  }

  get shelf(): Shelf {
    return this.#shelving.shelf;
  }

  get isEmpty(): boolean {
    return this.shelf.snapshots.length === 0;
  }

  /** With the last snapshot goes the journal. */
  async forget(): Promise<void> {
    await this.#parts.journal.forget(this.#hostId);
  }
}
