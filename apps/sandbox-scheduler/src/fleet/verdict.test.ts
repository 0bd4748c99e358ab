import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName, type InstanceReport } from '@torpor/contracts';
import type { Ending, Holding } from '@torpor/store';
import { expect, it } from 'vitest';
import { judge } from './verdict.ts';

const who = {
  instanceId: InstanceId.parse('iaaaaaaaaaaa'),
  workspace: WorkspaceName.parse('main'),
  name: SandboxName.parse('box'),
};
const nodeId = NodeId.parse('n1');
const record = (generation: number, phase: Holding['phase'] = 'ready'): Holding => {
  const idle = { kind: 'never' } as const;
  const rest = { nodeId, phase, idle, expiry: {}, lastUsedAtMs: 0, memoryMib: 512 };
  return { ...who, generation: Generation.parse(generation), ...rest };
};
const report = (generation: number): InstanceReport => {
  const rest = { state: 'stored', isolation: 'gvisor', lastUsedAtMs: 0, because: 'idle' } as const;
  return { ...who, generation: Generation.parse(generation), ...rest };
};
const ending = (generation: number): Ending => {
  return { ...who, generation: Generation.parse(generation), nodeId, reason: 'asked', sinceMs: 0, keep: ['h-1'] };
};
const verdict = (reported: number, onNode: Holding[], endings: Ending[] = []) => {
  const all = Object.entries(judge([report(reported)], { onNode, endings, nowMs: 0 }));
  return Object.fromEntries(all.filter(([, found]) => found.length > 0));
};

it('ends what has an ending, and nothing else', () => {
  const { instanceId } = who;
  expect(verdict(1, [], [ending(1)])).toEqual({
    unwanted: [{ instanceId, generation: 1, why: 'asked', keep: ['h-1'] }],
  });
  expect(verdict(1, [record(2)], [ending(1)])).toMatchObject({ unwanted: [{ generation: 1 }] });
  expect(verdict(1, [])).toEqual({ orphans: [report(1)] });
});

it('lets the record catch up with a node that is ahead of it, as it is when it was restored from an older copy', () => {
  expect(verdict(4, [record(3)])).toEqual({ ahead: [{ sandbox: record(3), generation: 4 }] });
  expect(verdict(4, [record(3, 'failed')])).toEqual({});
});

it('tells a node that is behind, and leaves one alone whose sandbox has failed: its files are kept', () => {
  expect(verdict(1, [record(2)])).toEqual({ misled: [record(2)] });
  expect(verdict(1, [record(2, 'failed')])).toEqual({});
});
