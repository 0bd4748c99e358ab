import { MemoryBus, type Wire } from '@torpor/bus';
import {
  describeInstance,
  instanceChanged,
  SandboxName,
  WorkspaceName,
  type InstanceReport,
  type Sandbox,
} from '@torpor/contracts';
import { Lifetime, systemClock } from '@torpor/kernel';
import { PLACEMENT_RULES } from '@torpor/policy';
import { memoryStore } from '@torpor/store';
import { describe, expect, it, vi } from 'vitest';
import { hearOf, NODE, plant } from '../rehearsal.ts';
import { openLiveStates } from './live-states.ts';

describe('a state that ceased to be true is told no more', () => {
  it('of an instance that its node says it does not have', async () => {
    const { live, say, sandbox, answers } = await stage();
    await say('running');
    answers.instance = undefined;
    expect(await live.ask(sandbox)).toBeUndefined();
    expect((await live.askAll([sandbox])).size).toBe(0);
  });

  it('of anything heard before the bus broke off: the node is asked anew', async () => {
    const { live, say, sandbox, answers, breakOff } = await stage();
    await say('running');
    answers.instance = report(sandbox, 'paused');
    expect((await live.askAll([sandbox])).get(sandbox.instanceId)).toMatchObject({ state: 'running' });
    breakOff();
    expect((await live.askAll([sandbox])).get(sandbox.instanceId)).toMatchObject({ state: 'paused' });
  });

  it('of what a node said before it fell silent, until it speaks again', async () => {
    const { live, say, sandbox, node, clock, store } = await stage();
    await say('running');
    await node.close();
    expect(await live.ask(sandbox)).toMatchObject({ state: 'running' });
    clock.aheadMs += PLACEMENT_RULES.silentMs + 3_000;
    expect(await live.ask(sandbox)).toBeUndefined();
    expect((await live.askAll([sandbox])).size).toBe(0);
    await hearOf(store, NODE, 'http://node.test', { heardAtMs: clock.nowMs(), leaseUntilMs: 0 });
    clock.aheadMs += 3_000;
    expect((await live.askAll([sandbox])).get(sandbox.instanceId)).toMatchObject({ state: 'running' });
  });
});

async function stage() {
  const bus = new MemoryBus();
  const store = memoryStore();
  const clock = {
    ...systemClock,
    aheadMs: 0,
    nowMs: () => Date.now() + clock.aheadMs,
    monotonicMs: () => performance.now() + clock.aheadMs,
  };
  await hearOf(store, NODE, 'http://node.test', { heardAtMs: clock.nowMs(), leaseUntilMs: 0 });
  const sandbox = await plant(store, SandboxName.parse('told'), WorkspaceName.parse('main'), NODE);
  const answers: { instance: InstanceReport | undefined } = { instance: report(sandbox, 'running') };
  const node = await bus
    .as('node')
    .serve(describeInstance, async () => (answers.instance ? { instance: answers.instance } : {}), { node: NODE });
  let breakOff = () => {};
  const own = bus.as('gateway');
  const wire: Wire = {
    ...own,
    hear: (fact, listener, { onGap = () => {} } = {}) => {
      breakOff = onGap;
      return own.hear(fact, listener);
    },
  };
  const live = await openLiveStates({ wire, store, clock, lifetime: new Lifetime() });
  const heard = vi.fn<() => void>();
  live.onEvent(heard);
  const say = async (state: 'running' | 'paused') => {
    bus.as('node').publish(instanceChanged, { atMs: 1, nodeId: NODE, what: 'woke', instance: report(sandbox, state) });
    await vi.waitFor(() => expect(heard).toHaveBeenCalled());
  };
  return { live, say, sandbox, answers, node, clock, store, breakOff: () => breakOff() };
}

function report({ instanceId, generation, workspace, name }: Sandbox, state: 'running' | 'paused'): InstanceReport {
  return { instanceId, generation, workspace, name, state, isolation: 'none', lastUsedAtMs: 2, because: 'request' };
}
