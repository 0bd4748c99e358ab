import type { InstanceId } from '@torpor/contracts';
import type { Intent, Step } from '@torpor/runtime';
import {
  EMPTY_SHELF,
  namesOn,
  shelfAfter,
  spare,
  type DoneWords,
  type IntentWords,
  type Process,
  type Shelf,
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
    this.#shelf = shelf;
  }

  get shelf(): Shelf {
    return this.#shelf;
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

  /** Of a node-agent that was cut short: a release or a restore of it had begun, and the host runs it all the same. */
  async foundAlive(process: Process): Promise<void> {
    const { rests, coming } = this.#shelf;
    if (rests !== 'elsewhere' || coming !== undefined) await this.lives(process);
  }

  async lives(process?: Process): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.lives(this.#hostId(), process));
  }

  /** Its process is gone: what the newest image holds is all of it no longer. */
  async died(reason: string): Promise<void> {
    this.#shelf = shelfAfter(this.#shelf, await this.#parts.journal.died(this.#hostId(), reason));
  }

  /** Removes what need not be kept. `proven`: the image that a wake has just come from. */
  async tidy(proven: string | undefined): Promise<void> {
    const images = spare(this.#shelf, proven);
    if (images.length === 0) return;
    const steps = this.#parts.driver.forgetSteps({ instanceId: this.#hostId(), images });
    const { intent } = await this.intend({ operation: 'forget', images }, steps);
    await this.#parts.journal.carryOut(intent, steps);
    await this.done({ operation: 'forget', images }, { durable: false });
  }
}
