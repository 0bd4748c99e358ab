import { createSandbox, deleteSandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import {
  workspace,
  name,
  forever,
  clock,
  store,
  nodes,
  gateway,
  ask,
  create,
  end,
  row,
  running,
  beat,
  beatFor,
} from '../testing/stage.ts';

describe('create', () => {
  it('answers a sandbox that its node runs, ready in the record, with the way to it', async () => {
    const { kind, sandbox, route } = await create();
    expect([kind, sandbox.phase, route.nodeUrl]).toEqual(['created', 'ready', 'http://a:9']);
    expect(await row()).toEqual(sandbox);
    expect(nodes.a.starts).toMatchObject([{ instanceId: sandbox.instanceId, generation: 1, env: { A: '1' }, name }]);
    expect(await gateway().hints.get('route.main.box')).toBe(JSON.stringify(route));
  });

  it('finds a name when none is given', async () => {
    const { name: _name, ...nameless } = ask();
    const { sandbox } = await clock.until(gateway().ask(createSandbox, nameless));
    expect(sandbox.name).toMatch(/^sandbox-[a-z2-9]{8}$/);
  });

  it('gives ten callers who allow reuse the same sandbox, round after round, also right after a delete', async () => {
    for (let round = 1; round <= 3; round++) {
      nodes.a.onStart = () => clock.after(50);
      const asks = Array.from({ length: 10 }, () => gateway().ask(createSandbox, ask({ reuse: true })));
      const answers = await clock.until(Promise.all(asks));
      expect(new Set(answers.map((answer) => answer.sandbox.instanceId)).size).toBe(1);
      expect(answers.filter((answer) => answer.kind === 'created')).toHaveLength(1);
      expect(new Set(answers.map((answer) => answer.sandbox.phase))).toEqual(new Set(['ready']));
      expect(nodes.a.starts).toHaveLength(round);
      await end();
    }
  });

  it('lets callers who allow reuse and deletes race, and everybody converges', async () => {
    nodes.a.onStart = () => clock.after(20);
    const asks = Array.from({ length: 6 }, async (_, n) => {
      await clock.after(n * 7);
      return gateway().ask(createSandbox, ask({ reuse: true }));
    });
    const deletes = [15, 30].map(async (ms) => {
      await clock.after(ms);
      return gateway().ask(deleteSandbox, { workspace, name, reason: 'race' });
    });
    const outcomes = await clock.until(Promise.allSettled([...asks, ...deletes]));
    const codes = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []));
    expect(codes.filter((code) => !['conflict', 'not_found'].includes(code))).toEqual([]);
    const { sandbox } = await create({ reuse: true });
    await clock.advance(20_000);
    expect(running()).toEqual(['a:box']);
    expect((await row())?.instanceId).toBe(sandbox.instanceId);
  });

  it('refuses a second one of a name, while it is being made and afterwards', async () => {
    nodes.a.onStart = () => clock.after(50);
    const first = gateway().ask(createSandbox, ask());
    await clock.advance(10);
    await expect(create()).rejects.toMatchObject({ code: 'conflict' });
    await clock.until(first);
    await expect(create()).rejects.toMatchObject({ code: 'conflict' });
  });

  it('asks another node when the first refuses, and the first ends what it may have begun', async () => {
    nodes.a.onStart = async () => {
      throw new Failure('no_capacity', 'full');
    };
    const { sandbox, route } = await create();
    expect([sandbox.nodeId, sandbox.generation, route.nodeId]).toEqual(['b', 2, 'b']);
    await clock.advance(1_000);
    expect(nodes.a.stopped).toEqual([`${nodes.a.starts[0]?.instanceId}/1`]);
    expect(await store.wanted.endings({})).toEqual([]);
  });

  it('asks another node when the first does not answer in time, and does not leave it running there', async () => {
    nodes.a.onStarted = () => forever;
    const making = gateway().ask(createSandbox, ask());
    await beatFor(50_000);
    const { sandbox } = await making;
    expect(sandbox.nodeId).toBe('b');
    await clock.advance(30_000);
    expect(running()).toEqual(['b:box']);
  });

  it('leaves no record when no node will have it, and says what each said', async () => {
    for (const node of [nodes.a, nodes.b]) {
      node.onStarted = async () => {
        throw new Failure('no_capacity', 'the pool of disks is full', { retryable: true, retryAfterS: 3 });
      };
    }
    await expect(create()).rejects.toMatchObject({
      code: 'no_capacity',
      retryable: true,
      retryAfterS: 3,
      message: /pool of disks is full/,
    });
    expect(await row()).toBeUndefined();
    await clock.advance(1_000);
    expect(running()).toEqual([]);
  });

  it('blames the caller for an unknown template, at once and with no record', async () => {
    await expect(create({ template: 'cobol' })).rejects.toMatchObject({
      code: 'bad_request',
      message: /no node has the template "cobol"; there is "base"/,
    });
    expect(await row()).toBeUndefined();
  });

  it('says what is wanting when the nodes are full, and that asking again helps', async () => {
    for (const node of [nodes.a, nodes.b]) {
      node.diskFreeMib = 100;
      await beat(node);
    }
    await expect(create()).rejects.toMatchObject({
      code: 'no_capacity',
      retryable: true,
      message: /no node has room for it: a has 100 MiB of disk free, 256 MiB are needed/,
    });
    expect(await row()).toBeUndefined();
  });

  it.each([
    [{ memoryMib: 9_000 }, /it asks for 9000 MiB of memory; the largest node has 8192 MiB/],
    [{ diskMib: 60_001 }, /it asks for 60001 MiB of disk; the largest that a node can give is 60000 MiB/],
  ])('blames the caller for %o, which no node could ever hold', async (size, message) => {
    await expect(create({ shape: { ...ask().shape, ...size } })).rejects.toMatchObject({
      code: 'unprocessable',
      retryable: false,
      message,
    });
    expect(await row()).toBeUndefined();
  });

  it('says unavailable when no node is alive', async () => {
    await clock.advance(60_000);
    await expect(create()).rejects.toMatchObject({ code: 'unavailable', retryable: true });
  });

  it('fails a create whose sandbox is deleted meanwhile, and nothing of it stays', async () => {
    nodes.a.onStart = () => clock.after(50);
    const making = gateway().ask(createSandbox, ask());
    await clock.advance(10);
    await end();
    await expect(clock.until(making)).rejects.toMatchObject({ code: 'conflict', retryable: true });
    await beatFor(10_000);
    expect(running()).toEqual([]);
    expect((await row())?.phase).toBe('terminated');
  });

  it('replaces one that had failed', async () => {
    const { sandbox } = await create();
    nodes.a.instances.clear();
    await beatFor(15_000);
    expect(await row()).toMatchObject({ phase: 'failed', reason: 'its node no longer has it' });
    const again = await create({ reuse: true });
    expect(again.kind).toBe('created');
    expect(again.sandbox.instanceId).not.toBe(sandbox.instanceId);
  });
});
