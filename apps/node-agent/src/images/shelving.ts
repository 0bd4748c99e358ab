import type { InstanceId } from '@torpor/contracts';
import type { Intent, Step } from '@torpor/runtime';
import {
  EMPTY_SHELF,
  namesOn,
  shelfAfter,
  spare,
  takenOver,
  type DoneWords,
  type IntentWords,
  type KeptSnapshot,
  type Process,
  type Shelf,
  type SnapshotNote,
} from '../journal/index.ts';
import type { Parts } from '../parts.ts';

/** One instance's shelf as it is now: what is written to the journal shows here too, and nothing else does. */
export class Shelving {
  readonly #parts: Parts;
  readonly #hostId: () => InstanceId;
  #shelf: Shelf;

  constructor(parts: Parts, hostId: () => InstanceId, shelf: Shelf = EMPTY_SHELF) {
    this.#parts = parts;
    this.#hostId = hostId;
    this.#shelf = takenOver(shelf);
  }

  get shelf(): Shelf {
    return this.#shelf;
  }

  /** Whatever sleeps in an image has one. */
  get newest(): string {
    const newest = this.#shelf.images.at(-1);
    if (!newest) throw new Error('there is no image of it');
    return newest.image;
  }

  get names(): string[] {
    return namesOn(this.#shelf);
  }

  async intend(what: IntentWords, steps: readonly Step[]): Promise<{ intent: Intent }> {
    const { intent, line } = await this.#parts.journal.intend(this.#hostId(), what, steps);
    this.#shelf = shelfAfter(this.#shelf, line);
    return { intent };
  }

  async done(what: DoneWords, options: { durable: boolean }): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.done(this.#hostId(), what, options));
  }

  async damaged(image: string, why: { reason: string; isWhole: boolean }): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.damaged(this.#hostId(), image, why));
  }

  async unmade(image: string, reason: string): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.unmade(this.#hostId(), image, reason));
  }

  /** The newest image is kept as a snapshot, too. */
  async keep(image: string, note: SnapshotNote): Promise<KeptSnapshot> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.kept(this.#hostId(), image, note));
    return this.snapshot(image);
  }

  /** The snapshot is one no longer; what nobody needs of it goes with the next `tidy`. */
  async unkeep(image: string): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.unkept(this.#hostId(), image));
  }

  /** Nothing of it may run. */
  async rewind(image: string): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.rewound(this.#hostId(), image));
  }

  snapshot(image: string): KeptSnapshot {
    const found = this.#shelf.snapshots.find((one) => one.image === image);
    if (!found) throw new Error(`image ${image} is no snapshot`);
    return found;
  }

  /** Of a node-agent that was cut short: a release of it had begun, and the host runs it all the same. */
  async foundAlive(process: Process): Promise<void> {
    if (this.#shelf.rests !== 'elsewhere') await this.lives(process);
  }

  async lives(process?: Process): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.lives(this.#hostId(), process));
  }

  /** Its process is gone: what the newest image holds is all of it no longer. */
  async died(reason: string, ofItself: boolean): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.died(this.#hostId(), reason, ofItself));
  }

  /** Removes what need not be kept. `proven`: the image that a wake has just come from. */
  tidy(proven: string | undefined): Promise<void> {
    return this.#forget(spare(this.#shelf, proven));
  }

  /** Removes rubbish, which nothing that is under way needs. */
  sweep(): Promise<void> {
    return this.#forget(this.#shelf.trash);
  }

  async #forget(images: readonly string[]): Promise<void> {
    if (images.length === 0) return;
    const steps = this.#parts.driver.forgetSteps({ instanceId: this.#hostId(), images });
    const { intent } = await this.intend({ operation: 'forget', images: [...images] }, steps);
    await this.#parts.journal.carryOut(intent, steps);
    await this.done({ operation: 'forget', images: [...images] }, { durable: false });
  }
}
