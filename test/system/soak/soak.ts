/**
 * Sandboxes that change, sleep in every tier, wake in every state, are snapshot, restored, forked and deleted, while their installation dies piece by
 * piece and its disk is full or slow. After each cycle everything that a sandbox has is compared with what it must have, to the byte. What is chosen
 * follows from a seed; when it happens does not.
 */
import type { Stack } from '../../bench/lib/stack.ts';
import { setTimeout as wait } from 'node:timers/promises';
import { Lost } from '../counter.ts';
import type { OwnInstallation } from '../own-installation.ts';
import { chanceOf } from './chance.ts';
import { change } from './deeds.ts';
import { fullSwap } from './full-swap.ts';
import { Sleeper, type Bequest } from './sleeper.ts';
import { Announced } from './subject.ts';
import { ALL_TROUBLES, healthy, trouble } from './trouble.ts';

/** Work side by side, each with sandboxes of its own. */
const WORKERS = 3;
const SANDBOXES_MAX = 3;
const SNAPSHOTS_MAX = 3;
/** Cycles of all workers between two troubles. */
const PEACE = 6;
/** Of so many cycles, every trouble is one. */
const LONG = 500;
const STORY_LINES = 30;

export interface Soak {
  readonly stack: Stack;
  readonly installation: OwnInstallation;
  readonly seed: string;
  readonly cycles: number;
}

/** Answers what happened, for a person. Rejects with the first promise that was broken, the seed, and how it came to that. */
export async function soak({ stack, installation, seed, cycles }: Soak): Promise<string> {
  const counts = new Map<string, number>();
  const story: string[] = [];
  const announced: string[] = [];
  let begun = 0;
  let bytes = 0;
  let broken: unknown;
  const isOver = () => begun >= cycles || broken !== undefined;
  const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
  const began = performance.now();
  const tell = (who: string, what: string) =>
    void story.push(`${((performance.now() - began) / 1000).toFixed(2)} s ${who}: ${what}`);

  const owned: Sleeper[][] = Array.from({ length: WORKERS }, () => []);
  const swap = await fullSwap(stack);
  const works = [...owned.map((own, n) => work(n, own)), troubling()];
  await Promise.all(works.map((each) => each.catch((error: unknown) => void (broken ??= error))));
  await swap?.end();
  if (broken !== undefined)
    throw new Error(
      `soak of seed ${seed} (TORPOR_SOAK_SEED=${seed}) broke in cycle ${begun} of ${cycles}; before that:\n${story.slice(-STORY_LINES).join('\n')}`,
      { cause: broken },
    );
  const missing = ALL_TROUBLES.filter((what) => !counts.has(`trouble: ${what}`) && (swap || what !== 'full swap'));
  if (cycles >= LONG && missing.length > 0) throw new Error(`nobody had to do with: ${missing.join(', ')}`);
  const told = [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([what, times]) => `${times} × ${what}`);
  const exceptions =
    announced.length === 0 ? '' : `; ${announced.length} announced deaths of runsc: ${announced.join('; ')}`;
  return `soak of seed ${seed}: ${begun} cycles in ${((performance.now() - began) / 1000).toFixed(0)} s, ${(bytes / 2 ** 30).toFixed(1)} GiB compared, 0 bytes and 0 sandboxes lost${exceptions}; ${told.join(', ')}`;

  async function work(n: number, own: Sleeper[]): Promise<void> {
    const chance = chanceOf(`${seed}/${n}`);
    let serial = 0;
    const fresh = (label: string) => `${label}-${n}-${serial++}`;
    const add = async (left?: Bequest) => {
      const made = await insistent(() => Sleeper.create(stack, fresh('soaked'), left));
      tell(made.name, left ? `made with ${left.volume}` : 'made');
      own.push(made);
    };
    await add();
    while (!isOver()) {
      if (++begun % LONG === 0) process.stdout.write(`${begun} cycles of seed ${seed} and nothing lost\n`);
      const one = chance.pick(own);
      try {
        await change(one, chance);
        await cycle(one);
      } catch (error) {
        if (!(error instanceof Announced) || one.mayDie) throw error; // who has an image goes back to that
        announced.push(error.message);
        await retire(one);
      }
      if (own.length === 0) await add();
    }
    for (const one of own) {
      bytes += (await one.check()).bytes;
      await one.remove();
    }

    async function retire(one: Sleeper, left?: Bequest): Promise<void> {
      own.splice(own.indexOf(one), 1);
      if (!left) await one.remove();
      tell(one.name, 'removed');
    }

    async function cycle(one: Sleeper): Promise<void> {
      const did = await act(one);
      tell(one.name, did);
      count(did);
      if (!own.includes(one)) return;
      if (chance.next() < 0.15) return; // it sleeps on, through somebody else's troubles
      bytes += (await one.check()).bytes;
    }

    /** Answers what became of it. */
    async function act(one: Sleeper): Promise<string> {
      const what = chance.weighed({
        store: 6,
        pause: 2,
        lean: 3,
        'store, asked meanwhile': 4,
        'pause, asked meanwhile': 2,
        'store twice': 1,
        snapshot: 3,
        restore: 4,
        fork: 2,
        'drop a snapshot': 1,
        'death of its gVisor': 2,
        'death as it is stored': 1,
        'death as it wakes': 1,
        delete: 1,
      });
      switch (what) {
        case 'store':
          return said('stored', await one.store());
        case 'pause':
          return said('paused', await one.pause());
        case 'lean':
          return said('lean', await one.lean());
        case 'store twice': {
          const first = await one.store();
          await one.check();
          return said('stored twice', first && (await one.store()));
        }
        case 'store, asked meanwhile':
          return meanwhile(one, 'stored', () => one.store());
        case 'pause, asked meanwhile':
          return meanwhile(one, 'paused', () => one.pause());
        case 'snapshot': {
          const [oldest] = one.snapshots;
          if (oldest && one.snapshots.length >= SNAPSHOTS_MAX) await one.drop(oldest);
          return said('snapshot', await one.snapshot(fresh('snap')));
        }
        case 'restore':
          if (one.snapshots.length === 0) return said('snapshot', await one.snapshot(fresh('snap')));
          return said('restored', await one.restore(chance.pick(one.snapshots)));
        case 'drop a snapshot':
          if (one.snapshots.length === 0) return said('stored', await one.store());
          return said('snapshot dropped', await one.drop(chance.pick(one.snapshots)));
        case 'fork': {
          const fork = await one.fork(fresh('fork'), chance.next() < 0.5 ? one.snapshots.at(-1) : undefined);
          if (!fork) return said('forked', false);
          bytes += (await fork.check()).bytes;
          own.push(fork);
          if (own.length > SANDBOXES_MAX) await retire(chance.pick(own.filter((each) => each !== one)));
          return said('forked', true);
        }
        case 'death of its gVisor':
          if (!one.mayDie) return said('stored', await one.store());
          await one.die();
          return 'killed in its gVisor';
        case 'death as it is stored':
          if (!one.mayDie) return said('stored', await one.store());
          return said('stored, killed meanwhile', await dying(one, () => one.store()));
        case 'death as it wakes':
          if (!(await one.store())) return 'not stored';
          bytes += (await dying(one, () => one.check())).bytes;
          return 'killed as it woke';
        case 'delete': {
          const left = chance.next() < 0.5 ? await one.bequeath() : undefined;
          await retire(one, left);
          if (!left) return 'deleted';
          await add(left);
          return 'deleted but for its volume';
        }
      }
    }

    /** A request comes while it is on its way to sleep. */
    async function meanwhile(one: Sleeper, what: string, sleep: () => Promise<boolean>): Promise<string> {
      const sleeping = sleep();
      await wait(chance.next() * 400);
      bytes += (await one.check()).bytes;
      return said(`${what}, asked meanwhile`, await sleeping);
    }

    /** All of its gVisor is killed while something is done with it. */
    async function dying<T>(one: Sleeper, act: () => Promise<T>): Promise<T> {
      const [done] = await Promise.all([act(), wait(chance.next() * 400).then(() => one.die())]);
      return done;
    }
  }

  async function troubling(): Promise<void> {
    const chance = chanceOf(`${seed}/trouble`);
    const names = () => owned.flat().map(({ name }) => name);
    for (let next = 2; !isOver();) {
      if (begun < next) {
        await wait(20);
        continue;
      }
      const { what, befell } = await trouble({ stack, installation, swap, names }, chance);
      tell('trouble', `${befell ? '' : 'no '}${what}`);
      count(`trouble: ${befell ? '' : 'no '}${what}`);
      next = begun + 1 + chance.below(2 * PEACE);
    }
    await healthy(installation);
  }
}

const said = (what: string, isDone: boolean) => (isDone ? what : `not ${what}`);

/** A create may be refused while somebody it needs is on its way back, or the disk is full. */
async function insistent<T>(act: () => Promise<T>): Promise<T> {
  const until = performance.now() + 120_000;
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (error instanceof Lost || performance.now() > until) throw error;
      await wait(200);
    }
  }
}
