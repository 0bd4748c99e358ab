import type { ApiRouter } from '@torpor/api';
import { Generation, instanceChanged, leanInstance, NodeId, SandboxName, storeInstance } from '@torpor/contracts';
import { createTRPCClient, httpBatchLink, httpSubscriptionLink, splitLink } from '@trpc/client';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { NODE, rehearse, type Rehearsal } from '../rehearsal.ts';

let stage: Rehearsal;
beforeAll(async () => {
  stage = await rehearse();
});
afterAll(() => stage.close());

function clientOf(key = stage.apiKey) {
  const url = `${stage.url}/trpc`;
  const headers = { authorization: `Bearer ${key}` };
  const fetchWithKey: typeof fetch = (input, init) =>
    fetch(input, { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), ...headers } });
  return createTRPCClient<ApiRouter>({
    links: [
      splitLink({
        condition: (op) => op.type === 'subscription',
        true: httpSubscriptionLink({ url, EventSource: eventSourceOver(fetchWithKey) }),
        false: httpBatchLink({ url, headers }),
      }),
    ],
  });
}

const named = (name: string) => ({ name: SandboxName.parse(name) });

describe('first-party clients', () => {
  it('create, find, list and delete sandboxes', async () => {
    const client = clientOf();
    const made = await client.sandboxes.create.mutate({ ...named('own'), env: { A: '1' }, memoryMib: 512 });
    expect(made).toMatchObject({
      name: 'own',
      phase: 'ready',
      envNames: ['A'],
      url: 'http://gateway.test/main/sandboxes/own',
    });
    expect(await client.sandboxes.get.query(named('own'))).toMatchObject({ state: 'paused' });
    expect((await client.sandboxes.list.query({})).items.map(({ name }) => name)).toContain('own');
    expect(await client.sandboxes.delete.mutate(named('own'))).toMatchObject({ phase: 'terminated' });
    expect(await client.whoami.query()).toMatchObject({ workspace: 'main', role: 'admin' });
    expect(await client.nodes.list.query()).toMatchObject([{ id: NODE }]);
    expect(await client.stats.query({})).toMatchObject({ sandboxes: { living: expect.any(Number) } });
  });

  it('get the same sandbox for the same idempotency key, and never another that has taken its name', async () => {
    const client = clientOf();
    const ask = { ...named('kept'), idempotencyKey: 'kept-1' };
    const made = await client.sandboxes.create.mutate(ask);
    expect(await client.sandboxes.create.mutate(ask)).toMatchObject({ instanceId: made.instanceId });
    await client.sandboxes.delete.mutate(named('kept'));
    await client.sandboxes.create.mutate(named('kept'));
    await expect(client.sandboxes.create.mutate(ask)).rejects.toMatchObject({ data: { failure: { code: 'gone' } } });
  });

  it('store sandboxes, and see where they sleep and what a wake took', async () => {
    const client = clientOf();
    await stage.plant('asleep');
    const reply = { state: 'paused', tookMs: 5, reason: 'the pool is full' } as const;
    const served = await stage.bus.as('node').serve(storeInstance, async () => reply, { node: NODE });
    expect(await client.sandboxes.store.mutate(named('asleep'))).toEqual(reply);
    await served.close();
    const wakes = { stored: { lastMs: 140, predictedMs: 150, measured: 2 } };
    const lost = { atMs: 1, to: 'image', reason: 'what happened after that was lost' } as const;
    stage.reported = { state: 'stored', tier: 'stored', wakeMs: 150, wakes, imageBytes: 7, lost, reason: lost.reason };
    expect(await client.sandboxes.get.query(named('asleep'))).toMatchObject(stage.reported);
    stage.reported = {};
    expect(await client.stats.query({})).toMatchObject({ wakes: { all: 0, lost: 0 } });
  });

  it('have sandboxes paged out, and see what of them is where', async () => {
    const client = clientOf();
    await stage.plant('lean');
    const reply = { state: 'lean', tookMs: 5 } as const;
    const served = await stage.bus.as('node').serve(leanInstance, async () => reply, { node: NODE });
    expect(await client.sandboxes.lean.mutate(named('lean'))).toEqual(reply);
    await served.close();
    stage.reported = { state: 'lean', tier: 'lean', memoryMib: 17, swapMib: 104 };
    expect(await client.sandboxes.get.query(named('lean'))).toMatchObject(stage.reported);
    stage.reported = {};
  });

  it('make snapshots, go back to them, and forks of them', async () => {
    const client = clientOf();
    await client.sandboxes.create.mutate(named('parent'));
    const made = await client.snapshots.create.mutate({ ...named('parent'), snapshot: 'one' });
    expect(made).toMatchObject({ name: 'one', state: 'ready', because: 'asked' });
    expect(await client.snapshots.list.query(named('parent'))).toEqual([made]);
    const restored = await client.snapshots.restore.mutate({ ...named('parent'), snapshot: 'one' });
    expect(restored.snapshot.id).toBe(made.id);
    await client.sandboxes.create.mutate(named('fork-2'));
    const ask = { ...named('parent'), as: SandboxName.parse('fork'), count: 3, snapshot: 'one', env: { A: '1' } };
    const { forks, failed } = await client.sandboxes.fork.mutate(ask);
    expect(forks.map(({ name, origin }) => `${name} of ${origin?.name}`).sort()).toEqual([
      'fork-1 of parent',
      'fork-3 of parent',
    ]);
    expect(failed).toMatchObject([{ name: 'fork-2', code: 'conflict' }]);
    await client.snapshots.delete.mutate({ ...named('parent'), snapshot: made.id });
    expect(await client.snapshots.list.query(named('parent'))).toEqual([]);
  });

  it('tell the history of a sandbox, with the points that it can go back to', async () => {
    const client = clientOf();
    await client.sandboxes.create.mutate(named('aged'));
    const { id } = await client.snapshots.create.mutate({ ...named('aged'), snapshot: 'one' });
    await client.sandboxes.fork.mutate({ ...named('aged'), as: SandboxName.parse('aged-child'), snapshot: id });
    const points = await client.sandboxes.history.query(named('aged'));
    expect(points.map(({ what }) => what)).toEqual(['stored', 'created', 'fork']);
    expect(points.at(-1)?.told).toBe('forked into aged-child');
  });

  it('keep snapshots beyond their sandbox where that is asked, list them, and make another sandbox of one', async () => {
    const client = clientOf();
    await client.sandboxes.create.mutate(named('brief'));
    const { id } = await client.snapshots.create.mutate({ ...named('brief'), snapshot: 'last' });
    await client.sandboxes.delete.mutate({ ...named('brief'), keepSnapshots: true });
    const kept = (await client.snapshots.list.query({})).filter((one) => one.id === id);
    expect(kept).toMatchObject([
      { id, name: 'last', state: 'on record', of: 'brief', keptSinceMs: expect.any(Number) },
    ]);
    const { forks } = await client.sandboxes.fork.mutate({ snapshot: id, as: SandboxName.parse('again') });
    expect(forks).toMatchObject([{ name: 'again', origin: { name: 'brief', snapshot: id } }]);
    await client.snapshots.delete.mutate({ snapshot: id });
    expect((await client.snapshots.list.query({})).map((one) => one.id)).not.toContain(id);
    await expect(client.sandboxes.fork.mutate({ env: {} })).rejects.toThrow(/expected the name of a sandbox/);
  });

  it('make keys that open, and revoke them', async () => {
    const client = clientOf();
    const { key, text } = await client.keys.create.mutate({ name: 'ci', role: 'member', scopes: ['sandboxes:read'] });
    const theirs = clientOf(text);
    expect((await theirs.sandboxes.list.query({})).items).toBeInstanceOf(Array);
    await expect(theirs.keys.list.query()).rejects.toMatchObject({ data: { failure: { code: 'forbidden' } } });
    expect((await client.keys.list.query()).map(({ name }) => name)).toContain('ci');
    await client.keys.revoke.mutate({ id: key.id });
    await expect(theirs.sandboxes.list.query({})).rejects.toMatchObject({
      data: { failure: { code: 'unauthenticated', message: 'this API key is revoked' } },
    });
  });

  it('are told what failed by its code', async () => {
    const client = clientOf();
    await expect(client.sandboxes.get.query(named('nobody'))).rejects.toMatchObject({
      data: { httpStatus: 404, failure: { code: 'not_found', retryable: false } },
    });
    const wrong = { name: 'NOT A NAME' } as never; // what a client in another language might send
    await expect(client.sandboxes.get.query(wrong)).rejects.toMatchObject({
      data: { failure: { code: 'bad_request' } },
    });
    await expect(clientOf('tp_no').sandboxes.list.query({})).rejects.toMatchObject({
      data: { httpStatus: 401, failure: { code: 'unauthenticated' } },
    });
  });

  it('are told of a body that nobody can read in the same shape', async () => {
    for (const [body, status, code] of [
      ['{"name":', 400, 'bad_request'],
      [' '.repeat(2 << 20), 413, 'too_large'],
    ] as const) {
      const headers = { 'content-type': 'application/json' };
      const answer = await stage.call('/trpc/sandboxes.create', { method: 'POST', body, headers });
      expect(answer.status).toBe(status);
      expect(await answer.json()).toMatchObject({ error: { data: { httpStatus: status, failure: { code } } } });
    }
  });

  it('hear of what happens to their own sandboxes only', async () => {
    const heard: unknown[] = [];
    const onStarted = vi.fn<() => void>();
    const subscription = clientOf().events.watch.subscribe(undefined, {
      onData: (event) => heard.push(event),
      onStarted,
    });
    await vi.waitFor(() => expect(onStarted).toHaveBeenCalled());
    const planted = await stage.plant('watched');
    const instance = {
      ...planted,
      generation: Generation.parse(1),
      state: 'paused',
      isolation: 'none',
      because: 'idle',
    } as const;
    const other = { ...instance, workspace: (await import('@torpor/contracts')).WorkspaceName.parse('theirs') };
    await vi.waitFor(() => {
      const wire = stage.bus.as('node');
      const about = { atMs: 1, nodeId: NodeId.parse('node-1'), what: 'fell asleep' };
      wire.publish(instanceChanged, { ...about, instance: other });
      wire.publish(instanceChanged, { ...about, instance });
      expect(heard.length).toBeGreaterThan(0);
    });
    expect(heard[0]).toMatchObject({ name: 'watched', what: 'fell asleep', state: 'paused', because: 'idle' });
    const ended = { ...instance, state: 'deleted', reason: 'asked' } as const;
    const about = { atMs: 2, nodeId: NodeId.parse('node-1'), what: 'deleted' };
    stage.bus.as('node').publish(instanceChanged, { ...about, instance: ended });
    await vi.waitFor(() => expect(heard.at(-1)).toMatchObject({ what: 'deleted', because: 'asked' }));
    subscription.unsubscribe();
  });

  it('are told how many sleep of all, not of the first page', async () => {
    for (let i = 0; i < 201; i++) await stage.plant(`many-${i}`);
    await vi.waitFor(
      async () => {
        const { sandboxes } = await clientOf().stats.query({});
        expect(sandboxes.living).toBeGreaterThan(200);
        expect(sandboxes).toMatchObject({ running: 0, asleep: sandboxes.living });
      },
      { timeout: 20_000 },
    );
  });
});

/** As much of an EventSource over fetch as the subscription link needs: Node has none. */
function eventSourceOver(fetchIt: typeof fetch) {
  class FetchEventSource extends EventTarget {
    static readonly CONNECTING = 0;
    static readonly OPEN = 1;
    static readonly CLOSED = 2;
    readonly CONNECTING = 0;
    readonly OPEN = 1;
    readonly CLOSED = 2;
    readyState = 0;
    readonly #end = new AbortController();

    constructor(url: string | URL) {
      super();
      void this.#read(url).catch(() => (this.readyState = 2));
    }

    close(): void {
      this.readyState = 2;
      this.#end.abort();
    }

    async #read(url: string | URL): Promise<void> {
      const answer = await fetchIt(url, { signal: this.#end.signal });
      this.readyState = 1;
      this.dispatchEvent(new Event('open'));
      let text = '';
      for await (const chunk of answer.body ?? []) {
        text += Buffer.from(chunk).toString();
        const blocks = text.split('\n\n');
        text = blocks.pop() ?? '';
        for (const block of blocks) this.#tell(block);
      }
    }

    #tell(block: string): void {
      const fields = new Map(
        block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
      );
      const event = new MessageEvent(fields.get('event') ?? 'message', {
        data: fields.get('data') ?? '',
        lastEventId: fields.get('id') ?? '',
      });
      this.dispatchEvent(event);
    }
  }
  return FetchEventSource as never; // the link only uses what is above
}
