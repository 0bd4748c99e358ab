/**
 * The way to each sandbox, as far as this gateway has learned it: from the creates it passed on, and from PostgreSQL when somebody asks. A way may
 * be out of date; the node then answers 421 and the way is read anew. Nothing here is the record of anything.
 */
import type { InstanceId, Route, Sandbox, SandboxName, WorkspaceName } from '@torpor/contracts';
import { Failure, type Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import { expiryOf } from '@torpor/policy';

const WAYS_MAX = 50_000;

interface Way {
  readonly key: string;
  readonly route: Route;
  /** When the sandbox ends by the clock alone, used or not. */
  readonly endsAtMs: number | undefined;
}

export class RouteBook {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #ways = new Map<string, Way>();
  readonly #keys = new Map<InstanceId, string>();
  readonly #reading = new Map<string, Promise<Route>>();

  constructor(parts: { store: Store; clock: Clock }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
  }

  /** The way when it is known without asking. */
  known(workspace: WorkspaceName, name: SandboxName): Route | undefined {
    const way = this.#ways.get(keyOf(workspace, name));
    if (!way) return undefined;
    return way.endsAtMs !== undefined && way.endsAtMs <= this.#clock.nowMs() ? undefined : way.route;
  }

  /** Rejects with `not_found` when there is no such sandbox, `unavailable` while it is not usable yet. */
  async find(workspace: WorkspaceName, name: SandboxName): Promise<Route> {
    return this.known(workspace, name) ?? this.readAnew(workspace, name);
  }

  /** What PostgreSQL says now; those who ask at the same time share one query. */
  readAnew(workspace: WorkspaceName, name: SandboxName): Promise<Route> {
    const key = keyOf(workspace, name);
    const under = this.#reading.get(key);
    if (under) return under;
    this.forget(workspace, name);
    const reading: Promise<Route> = this.#read(workspace, name, () => this.#reading.get(key) === reading).finally(
      () => {
        if (this.#reading.get(key) === reading) this.#reading.delete(key);
      },
    );
    this.#reading.set(key, reading);
    return reading;
  }

  learn(sandbox: Sandbox, route: Route): void {
    const key = keyOf(sandbox.workspace, sandbox.name);
    this.#drop(key);
    this.#ways.set(key, { key, route, endsAtMs: endOf(sandbox) });
    this.#keys.set(route.instanceId, key);
    if (this.#ways.size > WAYS_MAX) this.#drop(this.#ways.keys().next().value);
  }

  forget(workspace: WorkspaceName, name: SandboxName): void {
    const key = keyOf(workspace, name);
    this.#reading.delete(key);
    this.#drop(key);
  }

  forgetInstance(instanceId: InstanceId): void {
    this.#drop(this.#keys.get(instanceId));
  }

  #drop(key: string | undefined): void {
    const way = key === undefined ? undefined : this.#ways.get(key);
    if (!way) return;
    this.#ways.delete(way.key);
    this.#keys.delete(way.route.instanceId);
  }

  async #read(workspace: WorkspaceName, name: SandboxName, isStillAsked: () => boolean): Promise<Route> {
    const { sandboxes } = this.#store.workspace(workspace);
    const nowMs = this.#clock.nowMs();
    const found = await sandboxes.routeOf(name);
    if (found && expiryOf(found.sandbox, nowMs).kind === 'alive') {
      if (isStillAsked()) this.learn(found.sandbox, found.route);
      return found.route;
    }
    const sandbox = found ? undefined : await sandboxes.get(name, nowMs);
    if (sandbox?.phase === 'creating') {
      const more = { retryable: true, retryAfterS: 1 };
      throw new Failure('unavailable', `the sandbox "${name}" is being started; ask again in a moment`, more);
    }
    if (sandbox?.phase === 'failed') {
      const reason = sandbox.reason ?? 'no reason is known';
      throw new Failure('gone', `the sandbox "${name}" has failed: ${reason}. Delete it and create another.`);
    }
    throw new Failure('not_found', `there is no sandbox "${name}" in the workspace "${workspace}"`);
  }
}

function keyOf(workspace: WorkspaceName, name: SandboxName): string {
  return `${workspace}/${name}`;
}

/** Without the idle limit: only its node knows when it was last used. */
function endOf({ expiry: { atMs, maxAgeMs }, createdAtMs, lastUsedAtMs }: Sandbox): number | undefined {
  const expiry = { ...(atMs !== undefined && { atMs }), ...(maxAgeMs !== undefined && { maxAgeMs }) };
  const life = expiryOf({ expiry, createdAtMs, lastUsedAtMs }, 0);
  return life.kind === 'alive' ? life.endsAtMs : life.atMs;
}
