import { Generation, InstanceId, NodeId } from '@torpor/contracts';
import { beforeEach, expect, it } from 'vitest';
import { Lanes, type Heard } from './lanes.ts';

const [a, b] = ['a', 'b'].map((id) => NodeId.parse(id)) as [NodeId, NodeId]; // two go in, two come out
const who = (n: number, nodeId: NodeId) => ({
  instanceId: InstanceId.parse(`instance${n}`),
  generation: Generation.parse(1),
  nodeId,
});
const never = () => new Promise<Heard>(() => {});
const settled = () => new Promise((resolve) => setImmediate(resolve));

let closing: AbortController;
let troubles: unknown[];
let lanes: Lanes;
let done: string[];
const doing = (what: string, heard: Heard) => async () => {
  done.push(what);
  return heard;
};

beforeEach(() => {
  closing = new AbortController();
  troubles = [];
  done = [];
  lanes = new Lanes(closing.signal, (error) => troubles.push(error));
});

it('does four things at once for one node, and everything for the others meanwhile', async () => {
  let begun = 0;
  for (let n = 0; n < 20; n++) {
    lanes.add(who(n, a), () => (begun++, never()));
    lanes.add(who(n, b), doing(`b${n}`, 'answered'));
  }
  await settled();
  expect([begun, done.length]).toEqual([4, 20]);
});

it('tries no more of a node that has fallen silent, until it is told anew', async () => {
  for (let n = 0; n < 20; n++) lanes.add(who(n, a), doing(`a${n}`, 'silent'));
  await settled();
  expect(done).toEqual(['a0', 'a1', 'a2', 'a3']);
  lanes.add(who(19, a), doing('a19', 'answered'));
  await settled();
  expect(done.at(-1)).toBe('a19');
});

it('does what is waiting or at work once', async () => {
  const { promise, resolve } = Promise.withResolvers<Heard>();
  lanes.add(who(1, a), () => promise);
  lanes.add(who(1, a), doing('again', 'answered'));
  resolve('answered');
  await settled();
  expect(done).toEqual([]);
  lanes.add(who(1, a), doing('later', 'answered'));
  await settled();
  expect(done).toEqual(['later']);
});

it('tells of work that threw, and goes on; begins nothing once the room closes', async () => {
  for (let n = 0; n < 5; n++) lanes.add(who(n, a), () => Promise.reject(new Error(`bug ${n}`)));
  lanes.add(who(5, a), doing('last', 'answered'));
  await settled();
  expect([troubles.length, done]).toEqual([5, ['last']]);
  closing.abort();
  lanes.add(who(6, a), doing('too late', 'answered'));
  await settled();
  expect(done).toEqual(['last']);
});
