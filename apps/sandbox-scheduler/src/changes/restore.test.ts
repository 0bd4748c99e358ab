import { restoreSandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import { beatFor, clock, create, gateway, name, nodes, row, running, workspace } from '../testing/stage.ts';

const restore = (snapshot = 'then') => clock.until(gateway().ask(restoreSandbox, { workspace, name, snapshot }));

describe('a restore in place', () => {
  it('raises the generation in the record before the node is asked under it, and answers the way anew', async () => {
    const { sandbox } = await create();
    nodes.a.kept.push('then');
    const restored = await restore();
    expect(restored).toMatchObject({ sandbox: { generation: 2 }, route: { generation: 2 }, snapshot: { id: 'then' } });
    expect(nodes.a.restored).toEqual([`${sandbox.instanceId}/2 then`]);
    expect([(await row())?.generation, (await row())?.phase]).toEqual([2, 'ready']);
  });

  it('of a snapshot that is not there raises nothing', async () => {
    await create();
    await expect(restore()).rejects.toMatchObject({ code: 'not_found' });
    expect((await row())?.generation).toBe(1);
  });

  it('that its node never heard of is made up for: the node learns the generation, and nothing is ended', async () => {
    await create();
    nodes.a.kept.push('then');
    nodes.a.onRestore = async () => {
      throw new Failure('unavailable', 'it did not come through', { retryable: true });
    };
    await expect(restore()).rejects.toMatchObject({ code: 'unavailable' });
    const held = () => [...nodes.a.instances.values()].map(({ generation }) => generation);
    expect([(await row())?.generation, held()]).toEqual([2, [1]]);
    await beatFor(60_000);
    expect([running(), (await row())?.phase, held()]).toEqual([['a:box'], 'ready', [2]]);
  });
});
