/**
 * What was read from the store a moment ago, so that a request on its hot path needs no database. A value is *fresh* for a while, then *read anew*
 * in the background while it still serves, then *dead*: the next request waits for the store. When the store does not answer, the last value found
 * serves on through a *grace*, for an outage of the database stops changes and not use: at once where the store refuses, after a short patience where
 * it hangs. What is forgotten is forgotten at once.
 */
import { withDeadline, type Clock } from '@torpor/kernel';

export interface RememberedOptions<V> {
  readonly clock: Clock;
  readonly read: (key: string) => Promise<V | undefined>;
  readonly freshMs: number;
  readonly lifeMs: number;
  /** How long "there is none" is believed. */
  readonly missMs: number;
  readonly graceMs: number;
  readonly entriesMax: number;
}

interface Entry<V> {
  readonly value: V | undefined;
  readonly readAtMs: number;
}

interface Reading<V> {
  readonly value: Promise<V | undefined>;
  readonly sinceMs: number;
}

/** How long a reading may take before those who have an older value go on with that. Counted from its beginning: it is waited out once, not by each. */
const PATIENCE_MS = 250;

export class Remembered<V> {
  readonly #options: RememberedOptions<V>;
  readonly #entries = new Map<string, Entry<V>>();
  readonly #reading = new Map<string, Reading<V>>();

  constructor(options: RememberedOptions<V>) {
    this.#options = options;
  }

  /** The value when it can be told without waiting. */
  now(key: string): { value: V | undefined } | undefined {
    const { freshMs, lifeMs, missMs } = this.#options;
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const ageMs = this.#ageMs(entry);
    if (ageMs >= (entry.value === undefined ? missMs : lifeMs)) return undefined;
    // Whoever waits for the same reading hears of its failure; in the background it only means that the value ages on.
    if (ageMs >= freshMs && entry.value !== undefined) this.#readOnce(key).value.catch(() => undefined);
    return entry;
  }

  async get(key: string): Promise<V | undefined> {
    const known = this.now(key);
    if (known) return known.value;
    const { value, sinceMs } = this.#readOnce(key);
    if (!this.#inGrace(key)) return value;
    const { clock } = this.#options;
    const ms = Math.max(0, sinceMs + PATIENCE_MS - clock.monotonicMs());
    try {
      return await withDeadline({ name: 'patience with the store', ms, clock }, () => value);
    } catch {
      // Asked for again, for it may have been forgotten meanwhile. Why the store did not answer is told where nothing is remembered.
      return this.#inGrace(key)?.value ?? value;
    }
  }

  /** As the store has it now. Rejects when it does not answer, whatever is remembered. */
  readAnew(key: string): Promise<V | undefined> {
    return this.#readOnce(key).value;
  }

  forget(key: string): void {
    this.#entries.delete(key);
    this.#reading.delete(key);
  }

  forgetWhere(matches: (value: V) => boolean): void {
    for (const [key, { value }] of this.#entries) if (value !== undefined && matches(value)) this.forget(key);
  }

  #ageMs({ readAtMs }: Entry<V>): number {
    return this.#options.clock.monotonicMs() - readAtMs;
  }

  #inGrace(key: string): Entry<V> | undefined {
    const entry = this.#entries.get(key);
    return entry?.value !== undefined && this.#ageMs(entry) < this.#options.graceMs ? entry : undefined;
  }

  #readOnce(key: string): Reading<V> {
    const under = this.#reading.get(key);
    if (under) return under;
    const value = this.#options.read(key).then(
      (found) => {
        // A reading that was begun before the key was forgotten may carry what is no longer true.
        if (this.#reading.get(key) === reading) this.#keep(key, found);
        return found;
      },
      (error: unknown) => {
        if (this.#reading.get(key) === reading) this.#reading.delete(key);
        throw error;
      },
    );
    const reading: Reading<V> = { value, sinceMs: this.#options.clock.monotonicMs() };
    this.#reading.set(key, reading);
    return reading;
  }

  #keep(key: string, value: V | undefined): void {
    this.#reading.delete(key);
    this.#entries.delete(key);
    this.#entries.set(key, { value, readAtMs: this.#options.clock.monotonicMs() });
    if (this.#entries.size > this.#options.entriesMax) this.#dropOldest();
  }

  #dropOldest(): void {
    const oldest = this.#entries.keys().next();
    if (!oldest.done) this.#entries.delete(oldest.value);
  }
}
