import { MemoryBus } from '@torpor/bus';
import { Generation, routeHintKey, SandboxName, WorkspaceName, writeRouteHint } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { memoryStore } from '@torpor/store';
import { describe, expect, it, vi } from 'vitest';
import { hearOf, NODE, plant } from '../rehearsal.ts';
import { RouteBook } from './route-book.ts';

const main = WorkspaceName.parse('main');
const web = SandboxName.parse('web');
const away = new Failure('unavailable', 'the database does not answer at present', { retryable: true });

describe('while the database is away', () => {
  it('the hint leads on, and the database is asked again a few seconds later', async () => {
    const { book, asked, clock, route, hinted } = await stage();
    asked.mockRejectedValue(away);
    expect(await book.find(main, web)).toEqual(hinted);
    expect(await book.find(main, web)).toEqual(hinted);
    expect(asked).toHaveBeenCalledTimes(1);
    asked.mockRestore();
    clock.atMs += 5_000;
    expect(await book.find(main, web)).toEqual(route);
  });

  it('the hint leads on as well where the database neither answers nor refuses', async () => {
    const { book, asked, clock, hinted } = await stage();
    asked.mockReturnValue(new Promise(() => {}));
    const finding = book.find(main, web);
    await expect.poll(() => clock.bells.length).toBe(1);
    clock.bells[0]?.();
    expect(await finding).toEqual(hinted);
  });

  it('what has no hint, or one that nobody can read, is refused with the database’s own failure', async () => {
    const { book, asked, hints } = await stage();
    asked.mockRejectedValue(away);
    await hints.put(routeHintKey({ workspace: main, name: web }), '{"of": "another version"}');
    await expect(book.find(main, web)).rejects.toBe(away);
    await hints.drop(routeHintKey({ workspace: main, name: web }));
    await expect(book.find(main, web)).rejects.toBe(away);
  });
});

it('the record counts for more than a hint', async () => {
  const { book, store, route } = await stage();
  expect(await book.find(main, web)).toEqual(route);
  await store.wanted.terminate(main, web, { reason: 'test', atMs: 1 });
  await expect(book.readAnew(main, web)).rejects.toMatchObject({ code: 'not_found' });
});

/** A sandbox on record, and a hint that says otherwise, so that one can tell them apart. */
async function stage() {
  const store = memoryStore();
  await hearOf(store, NODE, 'http://node.test');
  const { instanceId, generation, nodeId } = await plant(store, web, main, NODE);
  const route = { instanceId, generation, nodeId, nodeUrl: 'http://node.test' };
  const hinted = { ...route, generation: Generation.parse(2) };
  const { hints } = new MemoryBus().as('scheduler');
  await hints.put(routeHintKey({ workspace: main, name: web }), writeRouteHint(hinted));
  const shelf = store.workspace(main);
  vi.spyOn(store, 'workspace').mockReturnValue(shelf);
  const asked = vi.spyOn(shelf.sandboxes, 'routeOf');
  const clock = {
    atMs: Date.now(),
    bells: new Array<() => void>(),
    nowMs: () => clock.atMs,
    monotonicMs: () => clock.atMs,
    after: () => new Promise<void>((ring) => void clock.bells.push(ring)),
  };
  return { book: new RouteBook({ store, clock, hints }), store, asked, clock, route, hinted, hints };
}
