/** A gateway with an impatient person before it: creates, uses, changes and deletes sandboxes, and writes down what it was answered. */
import {
  createSandbox,
  deleteSandbox,
  forkSandbox,
  makeSnapshot,
  pauseInstance,
  storeInstance,
  SandboxName,
  updateSandbox,
  WorkspaceName,
  type Route,
  type SandboxAsk,
} from '@torpor/contracts';
import { Failure, seededChance, type Chance } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';
import type { Ledger } from './ledger.ts';
import { SHAPE, type World } from './world.ts';

export const WORKSPACE = WorkspaceName.parse('sim');
const NAMES = ['ada', 'bob', 'cleo', 'dan'].map((name) => SandboxName.parse(name));
/** The message of a delete or restart that was not answered, or its double, may still be on its way so long. */
const STRAGGLER_MS = 45_000;
/**
 * A gateway that remembers an old way may still reach a deleted sandbox on a node that is cut off from the bus, but not after that node's lease.
 * A single node has none: there it is until the node hears the scheduler again.
 */
const FENCED_MS = { alone: 75_000, among: 25_000 };

export class Client {
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #name: string;
  readonly #chance: Chance;
  readonly #routes = new Map<SandboxName, Route>();
  #count = 0;
  #over = false;

  constructor(world: World, ledger: Ledger, name: string) {
    this.#world = world;
    this.#ledger = ledger;
    this.#name = name;
    this.#chance = seededChance(Math.floor(world.chance.fraction() * 2 ** 32));
  }

  /** Until `stop`; resolves when the last thing it did was answered or given up. */
  async live(): Promise<void> {
    while (!this.#over) {
      await this.#world.clock.after(this.#chance.fraction() * 2_000);
      if (this.#over) return;
      const name = this.#pick(NAMES);
      const dice = this.#chance.fraction();
      if (dice < 0.3) await this.#attempt('create', name, () => this.#create(name));
      else if (dice < 0.75) await this.#attempt('use', name, () => this.#useAtOnce(name));
      else if (dice < 0.8) await this.#attempt('pause', name, () => this.#pause(name));
      else if (dice < 0.83) await this.#attempt('store', name, () => this.#store(name));
      else if (dice < 0.85) await this.#attempt('snapshot', name, () => this.#snapshot(name));
      else if (dice < 0.87) await this.#attempt('fork', name, () => this.#fork(name));
      else if (dice < 0.9) await this.#attempt('update', name, () => this.#update(name));
      else await this.#attempt('delete', name, () => this.#delete(name));
    }
  }

  stop(): void {
    this.#over = true;
  }

  async #attempt(what: string, name: SandboxName, work: () => Promise<string>): Promise<void> {
    const { story } = this.#world;
    const id = `${what} ${name} #${++this.#count}`;
    story.tell(this.#name, `${id} …`);
    try {
      story.tell(this.#name, `${id} → ${await work()}`);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      story.tell(this.#name, `${id} → ${error.code}: ${error.message}`);
      if (error.code === 'internal') story.breaks(`${id} was answered with an internal error: ${error.message}`);
    }
  }

  async #create(name: SandboxName): Promise<string> {
    const ask: SandboxAsk = {
      workspace: WORKSPACE,
      name,
      reuse: this.#chance.fraction() < 0.7,
      template: 'base',
      image: 'base',
      shape: SHAPE,
      env: { BY: this.#name },
      ports: [],
      labels: {},
      idle: { kind: 'after', idleMs: 1_000 + Math.floor(this.#chance.fraction() * 6_000) },
      expiry: {},
      terminatedRetentionMs: 5_000,
      extra: {},
      createdBy: this.#name,
    };
    const askedAtMs = this.#world.clock.nowMs();
    this.#ledger.asks.push({ name, askedAtMs });
    const { kind, sandbox, route } = await this.#wire().ask(createSandbox, ask);
    this.#ledger.creates.push({ sandbox, askedAtMs });
    if (this.#stragglerMs() > 0) this.#ledger.asks.push({ name, askedAtMs: askedAtMs + this.#stragglerMs() });
    if ((this.#ledger.deletedAtMs.get(sandbox.instanceId) ?? Infinity) < askedAtMs) {
      this.#world.story.breaks(`create of "${name}" answered ${sandbox.instanceId}, whose delete had been answered`);
    }
    this.#routes.set(name, route);
    return `${kind} ${sandbox.instanceId}/${sandbox.generation} on ${route.nodeId}`;
  }

  /** Often several requests come together: they share one wake. */
  async #useAtOnce(name: SandboxName): Promise<string> {
    const requests = Array.from({ length: this.#chance.fraction() < 0.4 ? 4 : 1 }, (_, n) => this.#use(name, n));
    const [first, ...others] = await Promise.allSettled(requests);
    for (const other of others)
      if (other.status === 'rejected' && !(other.reason instanceof Failure)) throw other.reason;
    if (first?.status === 'fulfilled') return `${first.value}${others.length > 0 ? ' and three more' : ''}`;
    throw first?.reason;
  }

  /** Writes a file and reads an older one back. */
  async #use(name: SandboxName, n: number): Promise<string> {
    const path = `/blaxel/${this.#name}-${this.#count}-${n}`;
    const text = `${path} of ${name}`;
    return this.#withGuest(name, async (guest, { instanceId, generation }) => {
      const boundMs = this.#world.boxes.length > 1 ? FENCED_MS.among : FENCED_MS.alone;
      const deletedAtMs = this.#ledger.deletedAtMs.get(instanceId) ?? Infinity;
      if (this.#world.clock.nowMs() - deletedAtMs > boundMs)
        this.#world.story.breaks(`the deleted ${instanceId} of "${name}" answers requests`);
      const sinceMs = this.#world.clock.nowMs();
      const written = await guest.send({
        method: 'PUT',
        path: `/v1/files/content?path=${path}&parents=1`,
        body: text,
        headMs: 10_000,
      });
      if (written.status >= 300) throw new Failure('bad_gateway', `writing answered ${written.status}`);
      const files = this.#ledger.files.get(`${instanceId}/${generation}`) ?? [];
      const older = files.length > 0 ? this.#pick(files) : undefined;
      if (older) {
        await expectFile(guest, older, (lost) => {
          const isStillTold = this.#ledger.files.get(`${instanceId}/${generation}`)?.includes(older);
          // The late double of its start may make a deleted one anew, empty, until its node hears that nobody wants it.
          if (isStillTold && !this.#ledger.deletedAtMs.has(instanceId))
            this.#world.story.breaks(`${instanceId} of "${name}" lost ${lost}`);
        });
      }
      this.#ledger.wrote(`${instanceId}/${generation}`, { path, text }, sinceMs);
      return `wrote ${path} in ${instanceId}/${generation}`;
    });
  }

  /** The gateway's routing: what it remembers, else the record; once more from the record when the node says that it is mistaken. */
  async #withGuest<T>(name: SandboxName, use: (guest: Guest, route: Route) => Promise<T>): Promise<T> {
    const remembered = this.#routes.get(name);
    const route = remembered ?? (await this.#recorded(name));
    try {
      return await this.#world.reach(route.nodeId, route, (guest) => use(guest, route));
    } catch (error) {
      if (!(error instanceof Failure) || !['misdirected', 'gone'].includes(error.code)) throw error;
      this.#routes.delete(name);
      const now = await this.#recorded(name);
      if (now.instanceId === route.instanceId && now.generation === route.generation) throw error;
      return this.#world.reach(now.nodeId, now, (guest) => use(guest, now));
    }
  }

  async #recorded(name: SandboxName): Promise<Route> {
    const found = await this.#world.store.workspace(WORKSPACE).sandboxes.routeOf(name);
    if (!found) throw new Failure('not_found', `there is no sandbox "${name}"`);
    this.#routes.set(name, found.route);
    return found.route;
  }

  async #pause(name: SandboxName): Promise<string> {
    const { instanceId, generation, nodeId } = await this.#recorded(name);
    const { state } = await this.#wire().ask(pauseInstance, { instanceId, generation }, { node: nodeId });
    return state;
  }

  async #store(name: SandboxName): Promise<string> {
    const { instanceId, generation, nodeId } = await this.#recorded(name);
    const { state } = await this.#wire().ask(storeInstance, { instanceId, generation }, { node: nodeId });
    return state;
  }

  async #snapshot(name: SandboxName): Promise<string> {
    const { instanceId, generation, nodeId } = await this.#recorded(name);
    const ask = { instanceId, generation, because: 'asked' as const };
    const { snapshot } = await this.#wire().ask(makeSnapshot, ask, { node: nodeId });
    return snapshot.id;
  }

  /** Under any of the names: what its parent held when it was asked for, it must hold. */
  async #fork(name: SandboxName): Promise<string> {
    const as = this.#pick(NAMES);
    const { instanceId, generation } = await this.#recorded(name);
    const held = [...(this.#ledger.files.get(`${instanceId}/${generation}`) ?? [])];
    const askedAtMs = this.#world.clock.nowMs();
    this.#ledger.asks.push({ name: as, askedAtMs });
    const ask = { workspace: WORKSPACE, name, as, env: {}, createdBy: this.#name };
    const { sandbox, route } = await this.#wire().ask(forkSandbox, ask);
    this.#ledger.creates.push({ sandbox, askedAtMs });
    if (this.#stragglerMs() > 0) this.#ledger.asks.push({ name: as, askedAtMs: askedAtMs + this.#stragglerMs() });
    this.#routes.set(as, route);
    if (sandbox.origin?.instanceId === instanceId) {
      // What the parent lost meanwhile by the host's fault the fork cannot have.
      const kept = this.#ledger.files.get(`${instanceId}/${generation}`) ?? [];
      const inherited = held.filter((file) => kept.includes(file));
      for (const file of inherited) this.#ledger.wrote(`${sandbox.instanceId}/${sandbox.generation}`, file, askedAtMs);
    }
    return `${sandbox.instanceId}/${sandbox.generation} on ${route.nodeId}`;
  }

  async #update(name: SandboxName): Promise<string> {
    const restart = this.#chance.fraction() < 0.4;
    const change = restart
      ? { env: { BY: `${this.#name}-${this.#count}` } }
      : { labels: { n: String(this.#count) }, idle: { kind: 'after' as const, idleMs: 2_000 } };
    const doing = restart
      ? this.#ledger.begins({ name, what: 'restart', fromMs: this.#world.clock.nowMs() })
      : undefined;
    try {
      const { sandbox } = await this.#wire().ask(updateSandbox, { workspace: WORKSPACE, name, ...change });
      if (doing) doing.untilMs = this.#world.clock.nowMs() + this.#stragglerMs();
      return `${restart ? 'restarted as' : 'changed'} ${sandbox.instanceId}/${sandbox.generation}`;
    } catch (error) {
      if (doing) doing.untilMs = this.#world.clock.nowMs() + 2 * STRAGGLER_MS;
      throw error;
    }
  }

  async #delete(name: SandboxName): Promise<string> {
    const doing = this.#ledger.begins({ name, what: 'delete', fromMs: this.#world.clock.nowMs() });
    this.#routes.delete(name);
    try {
      const { sandbox } = await this.#wire().ask(deleteSandbox, { workspace: WORKSPACE, name, reason: 'asked' });
      doing.untilMs = this.#world.clock.nowMs() + this.#stragglerMs();
      this.#routes.delete(name);
      this.#ledger.deletedAtMs.set(sandbox.instanceId, this.#world.clock.nowMs());
      return `ended ${sandbox.instanceId}/${sandbox.generation}`;
    } catch (error) {
      const refused = error instanceof Failure && error.code === 'not_found';
      doing.untilMs = this.#world.clock.nowMs() + (refused ? this.#stragglerMs() : STRAGGLER_MS);
      throw error;
    }
  }

  #wire() {
    return this.#world.bus.as(this.#room);
  }

  /** How long the double of the last ask may be on its way: it asks by name, and does not know that it is an echo. */
  #stragglerMs(): number {
    return this.#world.trouble.isDoubled(this.#room) ? STRAGGLER_MS : 0;
  }

  get #room(): string {
    return `gateway-${this.#name}`;
  }

  #pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.#chance.fraction() * items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}

export async function expectFile(
  guest: Guest,
  file: { path: string; text: string },
  lost: (what: string) => void,
): Promise<void> {
  const answer = await guest.send({ method: 'GET', path: `/v1/files/content?path=${file.path}`, headMs: 10_000 });
  const chunks: Buffer[] = [];
  for await (const chunk of answer.body) chunks.push(Buffer.from(chunk));
  const text = Buffer.concat(chunks).toString();
  if (answer.status !== 200 || text !== file.text) lost(`${file.path} (status ${answer.status}: ${text.slice(0, 80)})`);
}
