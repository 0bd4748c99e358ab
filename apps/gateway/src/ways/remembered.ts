/**
 * What was read from the store a moment ago, so that a request on its hot path needs no database. A value is *fresh* for a while, then *read anew*
 * in the background while it still serves, then *dead*: the next request waits for the store. When the store does not answer, the last value found
 * serves on through a *grace*, for an outage of the database stops changes and not use. What is forgotten is forgotten at once.
 */
import type { Clock } from '@torpor/kernel';

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

export class Remembered<V> {
  readonly #options: RememberedOptions<V>;
  readonly #entries = new Map<string, Entry<V>>();
  readonly #reading = new Map<string, Promise<V | undefined>>();

  constructor(options: RememberedOptions<V>) {
    this.#options = options;
  }

  /** The value when it can be told without waiting. */
  now(key: string): { value: V | undefined } | undefined {
    const { clock, freshMs, lifeMs, missMs } = this.#options;
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const ageMs = clock.monotonicMs() - entry.readAtMs;
    if (ageMs >= (entry.value === undefined ? missMs : lifeMs)) return undefined;
    // Whoever waits for the same reading hears of its failure; in the background it only means that the value ages on.
    if (ageMs >= freshMs && entry.value !== undefined) this.#readOnce(key).catch(() => undefined);
    return entry;
  }

  async get(key: string): Promise<V | undefined> {
    const known = this.now(key);
    if (known) return known.value;
    try {
      return await this.#readOnce(key);
    } catch (error) {
      const last = this.#entries.get(key);
      const { clock, graceMs } = this.#options;
      if (last?.value !== undefined && clock.monotonicMs() - last.readAtMs < graceMs) return last.value;
      throw error;
    }
  }

  forget(key: string): void {
    this.#entries.delete(key);
    this.#reading.delete(key);
  }

  forgetWhere(matches: (value: V) => boolean): void {
    for (const [key, { value }] of this.#entries) if (value !== undefined && matches(value)) this.forget(key);
  }

  #readOnce(key: string): Promise<V | undefined> {
    const under = this.#reading.get(key);
    if (under) return under;
    const reading = this.#options.read(key).then(
      (value) => {
        // A reading that was begun before the key was forgotten may carry what is no longer true.
        if (this.#reading.get(key) === reading) this.#keep(key, value);
        return value;
      },
      (error: unknown) => {
        if (this.#reading.get(key) === reading) this.#reading.delete(key);
        throw error;
      },
    );
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
