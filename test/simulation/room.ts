import type { MemoryBus, Wire } from '@torpor/bus';
import type { Clock } from '@torpor/kernel';
import { severable, type SeverableOptions } from '@torpor/testkit';
import type { Story } from './story.ts';
import type { Trouble } from './trouble.ts';

/** How a room gets the things that it is given, so that its death cuts it off from all of them. */
export type Lend = <T extends object>(thing: T, more?: { sync?: readonly string[]; weight?: number }) => T;

export interface Stage {
  readonly clock: Clock;
  readonly bus: MemoryBus;
  readonly trouble: Trouble;
  readonly story: Story;
}

type Open<Living> = (life: { lend: Lend; wire: Wire; clock: Clock; number: number }) => Promise<Living>;

/** A room and its supervisor: lives, is killed at any await, and comes back. */
export class Room<Living> {
  readonly name: string;
  readonly #stage: Stage;
  readonly #open: Open<Living>;
  #sever: () => void = () => {};
  #lives = 0;
  /** Undefined while it is dead or starting. */
  living: Living | undefined;
  onDeath: () => void = () => {};

  constructor(name: string, stage: Stage, open: Open<Living>) {
    this.name = name;
    this.#stage = stage;
    this.#open = open;
  }

  async start(): Promise<void> {
    const { bus, clock, story, trouble } = this.#stage;
    const number = (this.#lives += 1);
    const severs: (() => void)[] = [];
    this.#sever = () => severs.forEach((sever) => sever());
    const dies = (at: string, weight = 1) => {
      if (number === this.#lives && trouble.strikes(weight)) this.kill(at);
    };
    const lend: Lend = (thing, { sync = [], weight } = {}) => {
      const options: SeverableOptions = {
        sync,
        before: async (method) => {
          dies(`before ${method}`, weight);
          await clock.after(trouble.latencyMs());
        },
        after: async (method) => dies(`after ${method}`, weight),
      };
      const { held, sever } = severable(thing, options);
      severs.push(sever);
      return held;
    };
    const own = severable(clock, { sync: ['nowMs', 'monotonicMs'] });
    severs.push(own.sever);
    bus.mend(this.name);
    const wire = severable(bus.as(this.name), { sync: ['publish'], after: async (method) => dies(`after ${method}`) });
    severs.push(wire.sever);
    const living = await this.#open({ lend, wire: wire.held, clock: own.held, number });
    if (number !== this.#lives) return; // killed as it was just opened: nothing of it counts
    this.living = living;
    story.tell(this.name, `is open (life ${number})`);
  }

  /** As SIGKILL; the supervisor starts it again after a while. */
  kill(why: string, backAfterMs = 200): void {
    const { bus, story } = this.#stage;
    story.tell(this.name, `is killed ${why}`);
    this.#lives += 1;
    this.#sever();
    this.living = undefined;
    bus.sever(this.name);
    this.onDeath();
    void this.#comeBack(this.#lives, backAfterMs);
  }

  async #comeBack(life: number, afterMs: number): Promise<void> {
    await this.#stage.clock.after(afterMs);
    if (life === this.#lives) await this.start();
  }
}
