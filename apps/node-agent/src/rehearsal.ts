/** For tests only: the room's insides over a host in memory, under a clock that stands still until it is told to go on. */
import {
  Generation,
  IdlePolicy,
  InstanceId,
  NodeId,
  SandboxName,
  WorkspaceName,
  type InstanceState,
  type Shape,
  type WakeBudget,
} from '@torpor/contracts';
import { DEFAULT_PRICES } from '@torpor/policy';
import { seededChance, Turns, type Clock } from '@torpor/kernel';
import { fakeDriver, FakeHost } from '@torpor/runtime';
import { silentTelemetry } from '@torpor/telemetry';
import { nodeEvents } from './events.ts';
import { Journal, MemoryJournalStore, type Failpoints } from './journal/index.ts';
import { NodeKey } from './images/node-key.ts';
import { Slots } from './life/slots.ts';
import type { Parts } from './parts.ts';
import { Admission, type Watermarks } from './pools/admission.ts';
import { Pools, type PoolTarget } from './pools/pools.ts';
import type { Instance } from './standby/instance.ts';
import { Receipts } from './receipts/receipts.ts';
import { Signer } from './receipts/signer.ts';
import { Standby, type StartAsk } from './standby/standby.ts';
import { Volumes } from './volumes/volumes.ts';

export const SHAPE: Shape = { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 };

/** Stands still. `go` moves it, firing what falls due in order, and lets everything settle in between. */
export class StillClock implements Clock {
  #ms = 1_000_000;
  readonly #timers = new Set<{ atMs: number; fire: () => void }>();

  nowMs(): number {
    return this.#ms;
  }

  monotonicMs(): number {
    return this.#ms;
  }

  after(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = { atMs: this.#ms + ms, fire: resolve };
      this.#timers.add(timer);
      signal?.addEventListener('abort', () => {
        this.#timers.delete(timer);
        reject(signal.reason);
      });
    });
  }

  async go(ms: number): Promise<void> {
    const until = this.#ms + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter((timer) => timer.atMs <= until).sort((a, b) => a.atMs - b.atMs)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#ms = Math.max(this.#ms, due.atMs);
      due.fire();
    }
    this.#ms = until;
    await settle();
  }
}

/** Lets every promise and stream that can go on, go on. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export interface Rehearsal {
  readonly parts: Parts;
  readonly pools: Pools;
  readonly admission: Admission;
  readonly standby: Standby;
  readonly changes: string[];
  /** Told of each change besides. */
  onChange: ((instance: Instance) => void) | undefined;
  /** Cut off from host and journal, as by SIGKILL: nothing that it still does takes effect. */
  die(): void;
}

export interface Stage {
  readonly clock: Clock;
  readonly host: FakeHost;
  readonly store: MemoryJournalStore;
  readonly volumeStore: MemoryJournalStore;
}

export function stage(clock: Clock = new StillClock(), options: ConstructorParameters<typeof FakeHost>[0] = {}): Stage {
  const host = new FakeHost({ ...options, clock });
  return { clock, host, store: new MemoryJournalStore(), volumeStore: new MemoryJournalStore() };
}

export function rehearse(
  { clock, host, store, volumeStore }: Stage,
  options: {
    targets?: readonly PoolTarget[];
    failpoints?: Failpoints;
    seed?: number;
    storeAfterMs?: number;
    watermarks?: Watermarks;
    leanAfterMs?: number;
    nodeKey?: number;
  } = {},
): Rehearsal {
  const life = { dead: false };
  const closing = new AbortController();
  const driver = mortal(fakeDriver(host), life);
  const nodeKey = new NodeKey(new Uint8Array(32).fill(options.nodeKey ?? 0));
  const admission = new Admission({
    driver,
    clock,
    watermarks: options.watermarks ?? { memoryFreeMib: 256, diskFreeMib: 256 },
  });
  const events = nodeEvents(silentTelemetry());
  const failpoints = options.failpoints ? { failpoints: options.failpoints } : {};
  const volumeJournal = new Journal({ store: mortal(volumeStore, life), clock, ...failpoints });
  const parts: Parts = {
    driver,
    journal: new Journal({
      store: mortal(store, life),
      clock,
      ...failpoints,
    }),
    clock,
    chance: seededChance(options.seed ?? Math.floor(clock.nowMs()) + host.calls.length),
    events,
    slots: new Slots(),
    admission,
    nodeKey,
    volumes: new Volumes({ driver, journal: volumeJournal, clock, events }),
    receipts: new Receipts({
      nodeId: NodeId.parse('n1'),
      signer: new Signer(nodeKey.signing()),
      store: mortal(store, life),
    }),
    leanAfterMs: options.leanAfterMs ?? 0,
    swap: 'auto',
    storeAfterMs: options.storeAfterMs ?? 0,
    prices: DEFAULT_PRICES,
    restores: new Turns(4),
    snapshotPolicy: { automaticMax: 3 },
    recipeOf: (template) => ({ template, workdir: '/blaxel', user: 'root', env: { FROM: 'recipe' } }),
    closing: closing.signal,
  };
  const pools = new Pools({
    parts,
    targets: options.targets ?? [],
    cpuShare: 0.5,
    hasRoom: () => admission.hasAmple(),
  });
  const changes: string[] = [];
  const changed = (instance: Instance, before: InstanceState) => {
    changes.push(`${before} → ${instance.state}`);
    rehearsal.onChange?.(instance);
  };
  const standby = new Standby({ parts, pools, birthsAtOnce: 4, changed });
  const die = () => {
    life.dead = true;
    closing.abort(new Error('killed'));
  };
  const rehearsal: Rehearsal = { parts, pools, admission, standby, changes, onChange: undefined, die };
  return rehearsal;
}

/** Whatever is asked of it after death is never answered and never done. */
function mortal<T extends object>(thing: T, life: { dead: boolean }): T {
  return new Proxy(thing, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (life.dead) return new Promise(() => {});
        const result: unknown = value.apply(target, args);
        if (typeof key === 'string' && key.endsWith('Steps'))
          return (result as object[]).map((step) => mortal({ ...step }, life)); // a driver's steps
        if (!(result instanceof Promise)) return result;
        return result.then(
          (answer) => (life.dead ? new Promise(() => {}) : answer),
          (error: unknown) => (life.dead ? new Promise(() => {}) : Promise.reject(error)),
        );
      };
    },
  });
}

export function startAsk(
  more: {
    id?: string;
    generation?: number;
    idle?: IdlePolicy;
    wakeBudget?: WakeBudget;
    env?: Record<string, string>;
  } = {},
): StartAsk {
  return {
    instanceId: InstanceId.parse(more.id ?? 'iaaaaaaaaaaa'),
    generation: Generation.parse(more.generation ?? 1),
    workspace: WorkspaceName.parse('w'),
    name: SandboxName.parse('box'),
    template: 'base',
    shape: SHAPE,
    env: more.env ?? {},
    idle: more.idle ?? { kind: 'after', idleMs: 15_000 },
    ...(more.wakeBudget ? { wakeBudget: more.wakeBudget } : {}),
  };
}
