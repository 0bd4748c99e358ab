/**
 * Keeps memory free for wakes from the disk: while the host is short of it, sleepers are stored before their time (`policy/standby/pressure.ts` says in which
 * order), a few at once, and those that run unused fall asleep sooner. Nobody in use is touched, and nobody is killed.
 */
import type { InstanceId } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { pressed } from '@torpor/policy';
import type { Parts } from '../parts.ts';
import type { Instance } from '../standby/instance.ts';

const EVERY_MS = 1_000;
/** While somebody waits. */
const URGENT_MS = 200;

export class Pressure {
  readonly #parts: Parts;
  readonly #instances: () => Iterable<Instance>;
  readonly #storesAtOnce: number;
  /** What those that are being stored will give up. */
  readonly #giving = new Map<Instance, number>();

  constructor(options: { parts: Parts; instances: () => Iterable<Instance>; storesAtOnce: number }) {
    this.#parts = options.parts;
    this.#instances = options.instances;
    this.#storesAtOnce = options.storesAtOnce;
  }

  async watch(): Promise<void> {
    const { clock, closing, admission, events } = this.#parts;
    while (!closing.aborted) {
      await clock.after(admission.isWaitedFor ? URGENT_MS : EVERY_MS, closing).catch(() => {}); // the room closes
      if (closing.aborted) return;
      await this.relieve().catch((error: unknown) => events.unrelieved({ reason: explain(error) }));
    }
  }

  /** One round. */
  async relieve(): Promise<void> {
    const { admission } = this.#parts;
    await admission.look();
    const isShort = admission.shortMib > 0;
    for (const instance of this.#instances()) instance.press(isShort);
    if (!isShort || this.#giving.size >= this.#storesAtOnce) return;
    for (const { instance, ramMib } of await this.#sleepers()) {
      if (this.#missingMib <= 0 || this.#giving.size >= this.#storesAtOnce) return;
      if (instance.depth.isStorable) this.#store(instance, ramMib);
    }
  }

  get #missingMib(): number {
    return this.#parts.admission.shortMib - [...this.#giving.values()].reduce((sum, mib) => sum + mib, 0);
  }

  /** In the order in which they are to go. */
  async #sleepers() {
    const { driver, clock } = this.#parts;
    const all = [...this.#instances()].filter((one) => one.depth.isStorable && one.body !== undefined);
    const hostIds = all.flatMap(({ body }): InstanceId[] => (body ? [body.hostId] : []));
    const usage = hostIds.length === 0 ? undefined : await driver.usage(hostIds);
    const weighed = all.flatMap((instance) => {
      const ramMib = instance.body && usage?.get(instance.body.hostId)?.memoryMib;
      return ramMib === undefined ? [] : [{ instance, ramMib, ...instance.depth.underPressure() }];
    });
    return pressed(weighed, clock.nowMs());
  }

  #store(instance: Instance, ramMib: number): void {
    this.#giving.set(instance, ramMib);
    const { clock, admission } = this.#parts;
    const sinceMs = clock.monotonicMs();
    const work = async () => {
      await instance.store('memory');
      if (instance.state === 'stored') admission.freed(ramMib, (clock.monotonicMs() - sinceMs) / this.#storesAtOnce);
    };
    work()
      .catch((error: unknown) => this.#parts.events.unrelieved({ reason: explain(error) }))
      .finally(() => this.#giving.delete(instance));
  }
}
