import { deleteSandbox, dropSnapshot, forkSandbox, Generation, SandboxName, snapshotSandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import { beatFor, bus, clock, create, gateway, name, nodes, store, update, workspace } from '../testing/stage.ts';

const make = (more: object = {}) =>
  clock.until(gateway().ask(snapshotSandbox, { workspace, name, by: 'user:ada', ...more }));
const drop = (ask: object) => clock.until(gateway().ask(dropSnapshot, { workspace, ...ask } as never)); // shapes vary
const end = (keepSnapshots: boolean) =>
  clock.until(gateway().ask(deleteSandbox, { workspace, name, reason: 'asked', keepSnapshots }));
const listed = async () => (await store.workspace(workspace).snapshots.list()).map(({ id }) => id);

describe('a snapshot that somebody asked for', () => {
  it('is made on the node and put on record', async () => {
    const { sandbox } = await create({ env: { A: '1' } });
    const { snapshot } = await make();
    expect(nodes.a.snapshots).toEqual([sandbox.instanceId]);
    expect(await store.snapshots.find(workspace, snapshot.id)).toMatchObject({ by: 'user:ada', sandbox: { name } });
  });

  it('is gone from both when it is deleted, by its sandbox or alone, and a record of what the node has lost goes too', async () => {
    await create();
    const [one, two] = [(await make()).snapshot.id, (await make()).snapshot.id];
    nodes.a.kept.push(one);
    await drop({ name, snapshot: one });
    expect([nodes.a.dropped, await listed()]).toEqual([[one], [two]]);
    await drop({ snapshot: two });
    expect(await listed()).toEqual([]);
    await expect(drop({ snapshot: two })).rejects.toMatchObject({ code: 'not_found' });
  });

  it('stays on record when the node has not looked for it', async () => {
    await create();
    const { id } = (await make()).snapshot;
    nodes.a.onDrop = async () => {
      throw new Failure('misdirected', 'this node holds another generation of it', { retryable: true });
    };
    await expect(drop({ name, snapshot: id })).rejects.toMatchObject({ code: 'misdirected', retryable: true });
    expect(await listed()).toEqual([id]);
  });

  it('is looked for where it was made: in the incarnation of then, and in the generation of now though it has failed', async () => {
    const { sandbox } = await create();
    const { id } = (await make()).snapshot;
    const asked: string[] = [];
    nodes.a.kept.push(id);
    nodes.a.onDrop = async (of) => void asked.push(of);
    const raised = await store.wanted.raise(sandbox, { generation: Generation.parse(3), atMs: 0 });
    if (raised) await store.wanted.failKept(raised, { reason: 'its process ended', atMs: 0 });
    await drop({ snapshot: id });
    await end(false);
    const { sandbox: other } = await create();
    const before = (await make()).snapshot.id;
    nodes.a.kept.push(before);
    await update({ env: { A: '2' } });
    await drop({ name, snapshot: before });
    expect(asked).toEqual([`${sandbox.instanceId}/3`, `${other.instanceId}/1`]);
  });

  it('of another sandbox is not deleted under a name that is not its own', async () => {
    await create();
    const { id } = (await make()).snapshot;
    const other = SandboxName.parse('other');
    await create({ name: other });
    await expect(drop({ name: other, snapshot: id })).rejects.toMatchObject({ code: 'not_found' });
    expect(await listed()).toEqual([id]);
  });

  it('goes with its sandbox unless it is to be kept', async () => {
    await create();
    await make();
    await end(false);
    expect([await listed(), nodes.a.keeps]).toEqual([[], [[]]]);
  });

  it('outlives a restart of its sandbox with another env, and can still be made into a new one', async () => {
    const { sandbox: parent } = await create({ env: { A: '1' } });
    const { snapshot } = await make();
    await update({ env: { A: '2' } });
    await clock.advance(1_000);
    expect([await listed(), nodes.a.keeps]).toEqual([[snapshot.id], [[snapshot.id]]]);
    const ask = { workspace, snapshot: snapshot.id, as: SandboxName.parse('again'), env: {}, createdBy: 'user:bo' };
    await clock.until(gateway().ask(forkSandbox, ask));
    expect(nodes.a.starts.at(-1)?.from).toEqual({ instanceId: parent.instanceId, snapshot: snapshot.id });
  });

  it('is kept by the node that hears of the delete only later', async () => {
    await create();
    const { snapshot } = await make();
    bus.sever('a');
    await end(true);
    bus.mend('a');
    await nodes.a.open();
    await beatFor(60_000);
    expect([await listed(), nodes.a.keeps]).toEqual([[snapshot.id], [[snapshot.id]]]);
  });

  it('is made into a new sandbox where it lies, as its own was then, though that has ended', async () => {
    const { sandbox: parent } = await create({ env: { A: '1' }, labels: { l: '1' } });
    const { snapshot } = await make();
    await end(true);
    const as = SandboxName.parse('again');
    const ask = { workspace, snapshot: snapshot.id, as, env: { B: '2' }, createdBy: 'user:bo' };
    const { sandbox } = await clock.until(gateway().ask(forkSandbox, ask));
    expect(sandbox).toMatchObject({ name: as, nodeId: 'a', generation: 2, labels: { l: '1' }, envNames: ['A', 'B'] });
    expect(nodes.a.starts.at(-1)?.from).toEqual({ instanceId: parent.instanceId, snapshot: snapshot.id });
    const nothing = { ...ask, snapshot: 'nothing', as: SandboxName.parse('other') };
    await expect(clock.until(gateway().ask(forkSandbox, nothing))).rejects.toMatchObject({ code: 'not_found' });
  });
});
