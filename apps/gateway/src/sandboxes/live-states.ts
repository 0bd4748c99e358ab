/**
 * What nodes say of their instances: heard as it happens, asked for where an answer must be right. Never the record of anything. What may have ceased
 * to be true is not told: what was heard before the bus broke off is forgotten, and what was heard of a node that has fallen silent is kept back.
 */
import type { Wire } from '@torpor/bus';
import {
  describeInstance,
  instanceChanged,
  type InstanceId,
  type InstanceReport,
  type Sandbox,
  type WakeBudget,
} from '@torpor/contracts';
import type { Clock, Lifetime } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { z } from 'zod';
import { openSilentNodes } from './silent-nodes.ts';

/** The part of a node's report that callers are shown. */
export type LiveState = Omit<
  InstanceReport,
  'instanceId' | 'generation' | 'workspace' | 'name' | 'idle' | 'wakeBudget'
> & {
  /** The wake budget that the node goes by. */
  readonly effectiveBudget?: WakeBudget;
};

export type InstanceEvent = z.infer<typeof instanceChanged.body>;

export interface LiveStates {
  /** Asks the node; when it does not answer in time, what was last heard. Undefined when nobody knows, or the node has no such instance. */
  ask(sandbox: Sandbox, traceparent?: string): Promise<LiveState | undefined>;
  /** Of many: what was heard, and for the others one short round of questions. */
  askAll(sandboxes: readonly Sandbox[]): Promise<ReadonlyMap<InstanceId, LiveState>>;
  onEvent(listener: (event: InstanceEvent) => void): () => void;
}

const ASK_MS = 1_000;
const ASK_ALL_MS = 300;
const ASK_ALL_AT_ONCE = 64;
const HEARD_MAX = 50_000;

export async function openLiveStates(parts: {
  wire: Wire;
  store: Store;
  clock: Clock;
  lifetime: Lifetime;
}): Promise<LiveStates> {
  const { wire, store, clock, lifetime } = parts;
  const heard = new Map<InstanceId, LiveState>();
  const listeners = new Set<(event: InstanceEvent) => void>();
  const silentNodes = openSilentNodes({ store, clock });

  function keep(instanceId: InstanceId, state: LiveState): void {
    heard.delete(instanceId);
    if (state.state === 'deleted') return;
    heard.set(instanceId, state);
    if (heard.size > HEARD_MAX) for (const oldest of heard.keys()) return void heard.delete(oldest);
  }

  async function ask(sandbox: Sandbox, deadlineMs: number, traceparent?: string): Promise<LiveState | undefined> {
    const options = { node: sandbox.nodeId, deadlineMs, ...(traceparent === undefined ? {} : { traceparent }) };
    try {
      const { instance } = await wire.ask(describeInstance, { instanceId: sandbox.instanceId }, options);
      if (instance) keep(sandbox.instanceId, liveStateOf(instance));
      else heard.delete(sandbox.instanceId);
      return heard.get(sandbox.instanceId);
    } catch {
      // A node that cannot say leaves what was heard before; the caller is told less, and nothing wrong.
      return (await silentNodes()).has(sandbox.nodeId) ? undefined : heard.get(sandbox.instanceId);
    }
  }

  const ear = await wire.hear(
    instanceChanged,
    (event) => {
      keep(event.instance.instanceId, liveStateOf(event.instance));
      for (const listener of listeners) listener(event);
    },
    { onGap: () => heard.clear() },
  );
  lifetime.own('the ear for instances', () => ear.close());

  return {
    ask: (sandbox, traceparent) => ask(sandbox, ASK_MS, traceparent),
    async askAll(sandboxes) {
      const silent = await silentNodes();
      const reachable = sandboxes.filter(({ nodeId }) => !silent.has(nodeId));
      const unheard = reachable.filter(({ phase, instanceId }) => phase === 'ready' && !heard.has(instanceId));
      await Promise.all(unheard.slice(0, ASK_ALL_AT_ONCE).map((sandbox) => ask(sandbox, ASK_ALL_MS)));
      const known = new Map<InstanceId, LiveState>();
      for (const { instanceId } of reachable) {
        const state = heard.get(instanceId);
        if (state) known.set(instanceId, state);
      }
      return known;
    },
    onEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Who it is, and the policy that it is to go by, are the store's to say. */
function liveStateOf(report: InstanceReport): LiveState {
  const { instanceId: _, generation: __, workspace: ___, name: ____, idle: _____, wakeBudget, ...live } = report;
  return { ...live, ...(wakeBudget ? { effectiveBudget: wakeBudget } : {}) };
}
