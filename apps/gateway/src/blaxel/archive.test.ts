import type { InstanceReport } from '@torpor/contracts';
import { resumeInstance, storeInstance } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NODE, rehearse, type Rehearsal } from '../rehearsal.ts';

let stage: Rehearsal;
/** How the node ends what it is asked for. */
let node: { store: () => Promise<InstanceReport['state']>; resume: () => Promise<InstanceReport['state']> };

beforeEach(async () => {
  stage = await rehearse();
  await stage.plant('box');
  const become = (state: InstanceReport['state'], storeAsked: boolean) => {
    stage.reported = { state, storeAsked, imageBytes: 7, imageAtMs: 1_000 };
    return Promise.resolve(state);
  };
  node = { store: () => become('stored', true), resume: () => become('running', false) };
  const wire = stage.bus.as('node');
  await wire.serve(storeInstance, async () => ({ state: await node.store(), tookMs: 1 }), { node: NODE });
  await wire.serve(resumeInstance, async () => ({ state: await node.resume(), tookMs: 1 }), { node: NODE });
});
afterEach(() => stage.close());

async function post(verb: string, name = 'box') {
  const answer = await stage.call(`/v0/sandboxes/${name}/${verb}`, { method: 'POST' });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

async function listed(status: string): Promise<unknown[]> {
  const answer = await stage.call(`/v0/sandboxes?status=${status}`);
  return (await answer.json()) as unknown[];
}

describe('the archive of a sandbox', () => {
  it('is what is stored by somebody, and its use brings it back', async () => {
    expect(await post('archive')).toMatchObject({ status: 200, body: { status: 'ARCHIVED', archive: { size: 7 } } });
    expect(await post('archive')).toMatchObject({ status: 200, body: { status: 'ARCHIVED' } }); // twice is once
    expect([await listed('ARCHIVED'), await listed('DEPLOYED')]).toMatchObject([[{ status: 'ARCHIVED' }], []]);
    expect(await post('unarchive')).toMatchObject({ status: 200, body: { status: 'DEPLOYED', state: 'RUNNING' } });
    expect([await listed('ARCHIVED'), await listed('DEPLOYED')]).toMatchObject([[], [{ status: 'DEPLOYED' }]]);
  });

  it('that takes long is answered before it is done', async () => {
    const done = Promise.withResolvers<InstanceReport['state']>();
    node.store = () => done.promise;
    stage.reported = { state: 'storing', storeAsked: true };
    expect(await post('archive')).toMatchObject({ status: 200, body: { status: 'ARCHIVING' } });
    done.resolve('stored');
  });

  it('that cannot be made is refused with the reason, and the sandbox is as it was', async () => {
    node.store = async () => 'paused';
    expect(await post('archive')).toMatchObject({
      status: 409,
      body: { code: 409, message: expect.stringContaining('could not be archived') },
    });
    node.store = () => Promise.reject(new Failure('unavailable', 'the node is on fire', { retryable: true }));
    expect(await post('archive')).toMatchObject({ status: 503, body: { message: 'the node is on fire' } });
    const shown = await stage.call('/v0/sandboxes/box');
    expect(await shown.json()).toMatchObject({ status: 'DEPLOYED', state: 'STANDBY' });
  });

  it.each(['archive', 'unarchive'])('of a sandbox that is not there is refused: %s', async (verb) => {
    expect(await post(verb, 'nobody')).toMatchObject({ status: 404, body: { code: 404 } });
  });
});
