/** What is open by a key ends, visibly broken, with the key: when the bus tells, and when it does not. What is open by other keys goes on. */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { MemoryBus } from '@torpor/bus';
import { keyRevoked, WorkspaceName } from '@torpor/contracts';
import { Failure, Lifetime, systemChance, systemClock, type Clock } from '@torpor/kernel';
import { memoryStore, mintKey, type ApiKey, type Store } from '@torpor/store';
import { VirtualClock } from '@torpor/testkit';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { rehearse, type Rehearsal } from '../rehearsal.ts';
import { openKeyring } from './keyring.ts';

const MAIN = WorkspaceName.parse('main');
const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

async function keyIn(store: Store, more: { expiresAtMs?: number } = {}): Promise<{ key: ApiKey; text: string }> {
  const { text, ...minted } = mintKey(systemChance);
  const about = { name: 'k', subject: 'key:k', role: 'admin', createdAtMs: 1, createdBy: 'test', ...more } as const;
  await store.workspace(MAIN).keys.create({ ...minted, ...about });
  const found = await store.keys.findByPrefix(minted.prefix);
  if (!found) throw new Error('the key was not kept');
  return { key: found.key, text };
}

describe('a gateway', () => {
  async function stageWith(clock: Clock): Promise<Rehearsal> {
    const stage = await rehearse({ clock });
    opened.push(stage.close);
    await stage.plant('box');
    stage.answer = (_request, response) => void response.write('begun');
    stage.nodeServer.on('upgrade', (_request, socket: Socket) => {
      socket.on('error', () => undefined).write('HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nbegun');
    });
    return stage;
  }

  function ask(stage: Rehearsal, path: string, key: string, headers = {}) {
    const { port } = stage.gateway;
    const authorization = `Bearer ${key}`;
    return httpRequest({ host: '127.0.0.1', port, path, agent: false, headers: { authorization, ...headers } }).end();
  }

  /** How the connection stands. */
  function watched(stream: IncomingMessage | Socket): () => string {
    let how = 'open';
    stream
      .resume()
      .once('end', () => (how = 'ended'))
      .once('error', () => (how = 'broken'));
    return () => how;
  }

  async function stream(stage: Rehearsal, key: string, path = '/main/sandboxes/box/process/p/logs/stream') {
    const request = ask(stage, path, key);
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    expect(answer.statusCode).toBe(200);
    return watched(answer);
  }

  async function shell(stage: Rehearsal, key: string) {
    const request = ask(stage, '/main/sandboxes/box/terminal/ws', key, { connection: 'upgrade', upgrade: 'x' });
    const [, socket] = (await once(request, 'upgrade')) as [IncomingMessage, Socket];
    return watched(socket);
  }

  async function unanswered(stage: Rehearsal, key: string) {
    const answer = stage.answer;
    const asked = new Promise<void>((resolve) => (stage.answer = () => resolve()));
    let how = 'open';
    ask(stage, '/main/sandboxes/box/process', key).once('error', () => (how = 'broken'));
    await asked;
    stage.answer = answer;
    return () => how;
  }

  async function all(stage: Rehearsal, key: string): Promise<() => string[]> {
    const uses = [
      await stream(stage, key),
      await shell(stage, key),
      await unanswered(stage, key),
      await stream(stage, key, '/trpc/events.watch'),
    ];
    return () => uses.map((how) => how());
  }

  const BROKEN = Array(4).fill('broken');
  const OPEN = Array(4).fill('open');
  const PATIENT = { timeout: 10_000 };

  it('cuts streams, shells, waits and subscriptions as soon as another gateway says that their key is revoked', async () => {
    const stage = await stageWith(systemClock);
    const { key, text } = await keyIn(stage.store);
    const [theirs, others] = [await all(stage, text), await all(stage, stage.apiKey)];
    stage.bus.as('another gateway').publish(keyRevoked, { prefix: key.prefix });
    await vi.waitFor(() => expect(theirs()).toEqual(BROKEN), PATIENT);
    expect(others()).toEqual(OPEN);
  });

  it('cuts them within five seconds when nobody says it', async () => {
    const clock = new VirtualClock(Date.now());
    const stage = await stageWith(clock);
    const { key, text } = await keyIn(stage.store);
    const [theirs, others] = [await all(stage, text), await all(stage, stage.apiKey)];
    await stage.store.workspace(MAIN).keys.revoke(key.id, clock.nowMs());
    await clock.advance(5_000);
    await vi.waitFor(() => expect(theirs()).toEqual(BROKEN), PATIENT);
    expect(others()).toEqual(OPEN);
  });

  it('answers whoever revokes the very key that it asks with', async () => {
    const stage = await stageWith(systemClock);
    const { key, text } = await keyIn(stage.store);
    const init = { method: 'POST', body: JSON.stringify({ id: key.id }) };
    const headers = { 'content-type': 'application/json' };
    const answer = await stage.call('/trpc/keys.revoke', { key: text, headers, ...init });
    expect([answer.status, await answer.json()]).toMatchObject([200, { result: { data: { id: key.id } } }]);
  });
});

describe('a keyring', () => {
  async function ring() {
    const [clock, store, lifetime, wire] = [
      new VirtualClock(),
      memoryStore(),
      new Lifetime(),
      new MemoryBus().as('gateway'),
    ];
    const keyring = await openKeyring({ store, wire, clock, lifetime, onTrouble: () => {} });
    opened.push(() => lifetime.close());
    return { keyring, clock, store };
  }

  it('cuts what is open by a key that has expired, though the database is away', async () => {
    const { keyring, clock, store } = await ring();
    const { key } = await keyIn(store, { expiresAtMs: clock.nowMs() + 10_000 });
    vi.spyOn(store.keys, 'findByPrefix').mockImplementation(() => new Promise(() => {}));
    const cut = vi.fn<(why: Failure) => void>();
    keyring.uses.hold(key, cut);
    await clock.advance(9_999);
    expect(cut).not.toHaveBeenCalled();
    await clock.advance(5_001);
    expect(cut.mock.calls).toEqual([[expect.objectContaining({ message: 'this API key is expired' })]]);
  });

  it('cuts nothing because the database is away, and finds the revoked key when it is back', async () => {
    const { keyring, clock, store } = await ring();
    const { key } = await keyIn(store);
    await store.workspace(MAIN).keys.revoke(key.id, clock.nowMs());
    const find = vi.spyOn(store.keys, 'findByPrefix').mockRejectedValue(new Failure('unavailable', 'no database'));
    const cut = vi.fn<(why: Failure) => void>();
    keyring.uses.hold(key, cut);
    await clock.advance(60_000);
    expect(cut).not.toHaveBeenCalled();
    find.mockRestore();
    await clock.advance(5_000);
    expect(cut).toHaveBeenCalledTimes(1);
  });

  it('reads a key once a round for many uses, and not when all of them are over', async () => {
    const { keyring, clock, store } = await ring();
    const { key } = await keyIn(store);
    const find = vi.spyOn(store.keys, 'findByPrefix');
    const releases = Array.from({ length: 100 }, () => keyring.uses.hold(key, () => {}));
    await clock.advance(2_500);
    expect(find).toHaveBeenCalledTimes(1);
    for (const release of releases) release();
    await clock.advance(60_000);
    expect(find).toHaveBeenCalledTimes(1);
  });
});
