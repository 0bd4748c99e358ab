/**
 * The way to each sandbox, as far as this gateway has learned it: from the creates it passed on, and from PostgreSQL when somebody asks. A way may
 * be out of date; the node then answers 421 and the way is read anew. While PostgreSQL cannot be asked, the scheduler's hint on the bus leads on: an
 * outage stops changes, not use. Nothing here is the record of anything.
 */
import type { Hints } from '@torpor/bus';
import {
  readRouteHint,
  routeHintKey,
  type InstanceId,
  type Route,
  type Sandbox,
  type SandboxName,
  type WorkspaceName,
} from '@torpor/contracts';
import { Failure, withDeadline, type Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import { expiryOf } from '@torpor/policy';

const WAYS_MAX = 50_000;
/** How long PostgreSQL may take before the hint is looked for, and how long the bus may take to find one. */
const PATIENCE_MS = 1_000;
/** How long a hint leads before PostgreSQL is asked again. */
const HINTED_MS = 5_000;

interface Way {
  readonly key: string;
  readonly route: Route;
  /** When the sandbox ends by the clock alone, used or not. */
  readonly endsAtMs: number | undefined;
}

export class RouteBook {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #hints: Pick<Hints, 'get'>;
  readonly #ways = new Map<string, Way>();
  readonly #keys = new Map<InstanceId, string>();
  readonly #reading = new Map<string, Promise<Route>>();

  constructor(parts: { store: Store; clock: Clock; hints: Pick<Hints, 'get'> }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#hints = parts.hints;
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

  /** What PostgreSQL says now, or the hint when it does not; those who ask at the same time share one query. */
  readAnew(workspace: WorkspaceName, name: SandboxName): Promise<Route> {
    const key = keyOf(workspace, name);
    const under = this.#reading.get(key);
    if (under) return under;
    this.forget(workspace, name);
    const isStillAsked = () => this.#reading.get(key) === reading;
    const reading: Promise<Route> = this.#read(workspace, name, isStillAsked).finally(() => {
      if (isStillAsked()) this.#reading.delete(key);
    });
    this.#reading.set(key, reading);
    return reading;
  }

  learn(sandbox: Sandbox, route: Route): void {
    this.#keep({ key: keyOf(sandbox.workspace, sandbox.name), route, endsAtMs: endOf(sandbox) });
  }

  forget(workspace: WorkspaceName, name: SandboxName): void {
    const key = keyOf(workspace, name);
    this.#reading.delete(key);
    this.#drop(key);
  }

  forgetInstance(instanceId: InstanceId): void {
    this.#drop(this.#keys.get(instanceId));
  }

  #keep(way: Way): void {
    this.#drop(way.key);
    this.#ways.set(way.key, way);
    this.#keys.set(way.route.instanceId, way.key);
    if (this.#ways.size > WAYS_MAX) this.#drop(this.#ways.keys().next().value);
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
    const asked = sandboxes.routeOf(name);
    const hinted = await this.#hintUnless(asked, workspace, name);
    if (hinted) {
      if (isStillAsked()) this.#keep({ key: keyOf(workspace, name), route: hinted, endsAtMs: nowMs + HINTED_MS });
      return hinted;
    }
    const found = await asked;
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

  /** Undefined when PostgreSQL answers within the patience, and when there is no hint either. */
  async #hintUnless(asked: Promise<unknown>, workspace: WorkspaceName, name: SandboxName): Promise<Route | undefined> {
    const within = <T>(what: string, work: () => Promise<T>) =>
      withDeadline({ name: what, ms: PATIENCE_MS, clock: this.#clock }, work);
    try {
      await within('read the way', () => asked);
      return undefined;
    } catch (error) {
      if (!isOutage(error)) return undefined;
    }
    const ask = () => this.#hints.get(routeHintKey({ workspace, name }));
    // A hint that cannot be had is no hint; what is told then is the database's own failure.
    return readRouteHint(await within('read the hint', ask).catch(() => undefined));
  }
}

function keyOf(workspace: WorkspaceName, name: SandboxName): string {
  return `${workspace}/${name}`;
}

/** The database is away, or takes longer than patience lasts. */
function isOutage(error: unknown): boolean {
  return error instanceof Failure && (error.code === 'unavailable' || error.code === 'deadline_exceeded');
}

/** Without the idle limit: only its node knows when it was last used. */
function endOf({ expiry: { atMs, maxAgeMs }, createdAtMs, lastUsedAtMs }: Sandbox): number | undefined {
  const expiry = { ...(atMs !== undefined && { atMs }), ...(maxAgeMs !== undefined && { maxAgeMs }) };
  const life = expiryOf({ expiry, createdAtMs, lastUsedAtMs }, 0);
  return life.kind === 'alive' ? life.endsAtMs : life.atMs;
}
