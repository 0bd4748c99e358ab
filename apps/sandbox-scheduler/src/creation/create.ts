import {
  createSandbox,
  type NodeId,
  type Route,
  type Sandbox,
  type SandboxAsk,
  type SandboxName,
} from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { expiryOf, type Placement } from '@torpor/policy';
import type { Endings } from '../changes/endings.ts';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';
import { claimVolumes, wantedVolumes } from '../volumes/claims.ts';
import type { Volumes } from '../volumes/volumes.ts';
import type { Births, Birth } from './births.ts';
import { freshName, newSandbox } from './new-sandbox.ts';
import { refusal } from './refusal.ts';

interface Answer {
  readonly kind: 'created' | 'existing';
  readonly sandbox: Sandbox;
  readonly route: Route;
}

type NamedAsk = SandboxAsk & { readonly name: SandboxName };

/** How often a create looks again when what it found has changed under its hands. */
const LOOKS_MAX = 8;

export class Creation {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  readonly #births: Births;
  readonly #endings: Endings;
  readonly #hints: RouteHints;
  readonly #volumes: Volumes;
  /** Births under way in this process, by incarnation: callers who may share a sandbox wait for the one birth. */
  readonly #underWay = new Map<string, Promise<Birth>>();

  constructor(
    parts: Parts,
    around: { fleet: FleetView; births: Births; endings: Endings; hints: RouteHints; volumes: Volumes },
  ) {
    this.#parts = parts;
    this.#fleet = around.fleet;
    this.#births = around.births;
    this.#endings = around.endings;
    this.#hints = around.hints;
    this.#volumes = around.volumes;
  }

  /** Answers a sandbox that is usable. `conflict` when the name is taken and the ask does not allow reuse. */
  create(ask: SandboxAsk, traceparent: string | undefined): Promise<Answer> {
    const { telemetry, clock, chance, events } = this.#parts;
    const named = { ...ask, name: ask.name ?? freshName(chance) };
    const beganAtMs = clock.monotonicMs();
    return telemetry.span('scheduler.create', { traceparent, kind: 'server' }, async (span) => {
      try {
        return await this.#create(named, clock.monotonicMs() + createSandbox.deadlineMs, span.traceparent);
      } catch (error) {
        const code = error instanceof Failure ? error.code : 'internal';
        const tookMs = clock.monotonicMs() - beganAtMs;
        events.createFailed({ workspace: named.workspace, name: named.name, code, reason: explain(error), tookMs });
        throw error;
      }
    });
  }

  isUnderWay(sandbox: Sandbox): boolean {
    return this.#underWay.has(keyOf(sandbox));
  }

  /** Joins or begins the birth of a row in phase creating. */
  bring(
    sandbox: Sandbox,
    how: {
      env: Readonly<Record<string, string>>;
      untilMs: number;
      traceparent?: string;
    },
  ) {
    const key = keyOf(sandbox);
    const there = this.#underWay.get(key);
    if (there) return there;
    const birth = this.#births.bring({ sandbox, ...how });
    this.#underWay.set(key, birth);
    const over = () => void this.#underWay.delete(key);
    birth.then(over, over);
    return birth;
  }

  async #create(ask: NamedAsk, untilMs: number, traceparent: string): Promise<Answer> {
    for (let look = 0; look < LOOKS_MAX; look++) {
      const attempt = await this.#begin(ask);
      const answer =
        attempt.kind === 'inserted'
          ? await this.#makeReady(attempt.sandbox, ask, { untilMs, traceparent })
          : await this.#settleWith(attempt.sandbox, ask, untilMs);
      if (answer) return answer;
    }
    throw new Failure('conflict', `the sandbox "${ask.name}" is being made and ended again and again; try later`, {
      retryable: true,
    });
  }

  /** The first commit. */
  async #begin(ask: NamedAsk): Promise<{ kind: 'inserted' | 'taken'; sandbox: Sandbox }> {
    const { store, clock, chance } = this.#parts;
    // Whoever may share a sandbox needs neither room for another one, nor volumes for it.
    const there = async () => {
      const sandbox = await store.wanted.living(ask.workspace, ask.name);
      return sandbox && { kind: 'taken' as const, sandbox };
    };
    const wanted = await wantedVolumes(this.#volumes, ask).catch(async (error: unknown) => {
      const taken = await there();
      if (!taken) throw error;
      return taken;
    });
    if ('kind' in wanted) return wanted;
    const placement = await this.#place(ask, wanted.nodeId);
    if (placement.kind === 'refused') {
      const taken = await there();
      if (taken) return taken;
      throw refusal(`the sandbox "${ask.name}" could not be placed`, placement);
    }
    const sandbox = newSandbox(ask, { nodeId: placement.nodeId, nowMs: clock.nowMs(), chance });
    const inserted = await store.wanted.insert(sandbox, ask.env);
    if (inserted.kind === 'taken') return inserted;
    await this.#claim(sandbox, wanted.claims);
    return { kind: 'inserted', sandbox };
  }

  async #claim(sandbox: Sandbox, claims: Parameters<typeof claimVolumes>[2]): Promise<void> {
    try {
      await claimVolumes(this.#parts, sandbox, claims);
    } catch (error) {
      const reason = 'its volumes were not to be had';
      await this.#parts.store.wanted.abandon(sandbox, { reason, atMs: this.#parts.clock.nowMs() });
      this.#endings.beginInBackground({ ...sandbox, reason });
      throw error;
    }
  }

  /** `only`: its volumes are there. */
  async #place(ask: NamedAsk, only: NodeId | undefined): Promise<Placement> {
    const placement = this.#births.place(ask, [], only);
    if (placement.kind === 'placed') return placement;
    await this.#fleet.refresh(this.#parts.store); // another scheduler may have heard of a node with room
    return this.#births.place(ask, [], only);
  }

  async #makeReady(sandbox: Sandbox, ask: NamedAsk, until: { untilMs: number; traceparent: string }): Promise<Answer> {
    const beganAtMs = this.#parts.clock.monotonicMs();
    const birth = await this.bring(sandbox, { env: ask.env, ...until });
    const tookMs = this.#parts.clock.monotonicMs() - beganAtMs;
    this.#parts.events.created(birth.sandbox, { from: birth.from, tookMs, attempts: birth.attempts });
    this.#hints.tell(birth.sandbox, birth.route);
    return { kind: 'created', sandbox: birth.sandbox, route: birth.route };
  }

  /** The name is taken. Undefined: what was in the way is gone, look again. */
  async #settleWith(there: Sandbox, ask: NamedAsk, untilMs: number): Promise<Answer | undefined> {
    if (there.phase === 'failed' || this.#isExpired(there)) {
      await this.#clearAway(there);
      return undefined;
    }
    if (!ask.reuse)
      throw new Failure('conflict', `a sandbox "${ask.name}" exists already in workspace "${ask.workspace}"`);
    const { sandbox, route } = there.phase === 'ready' ? await this.#wayTo(there) : await this.#join(there, untilMs);
    this.#parts.events.reused(sandbox);
    return { kind: 'existing', sandbox, route };
  }

  /** Waits for the birth, whoever began it. One that a dead scheduler began is taken up: starting twice is starting once. */
  async #join(there: Sandbox, untilMs: number): Promise<{ sandbox: Sandbox; route: Route }> {
    const joined = this.#underWay.get(keyOf(there));
    if (joined) return joined;
    const env = await this.#parts.store.wanted.envOf(there);
    if (!env)
      throw new Failure('unavailable', `the sandbox "${there.name}" changed while it was looked at`, {
        retryable: true,
      });
    return this.bring(there, { env, untilMs });
  }

  async #wayTo(sandbox: Sandbox): Promise<{ sandbox: Sandbox; route: Route }> {
    const { instanceId, generation, nodeId } = sandbox;
    if (!this.#fleet.urlOf(nodeId)) await this.#fleet.refresh(this.#parts.store);
    const nodeUrl = this.#fleet.urlOf(nodeId);
    if (!nodeUrl)
      throw new Failure('unavailable', `the node of sandbox "${sandbox.name}" was not heard of yet`, {
        retryable: true,
        retryAfterS: 5,
      });
    return { sandbox, route: { instanceId, generation, nodeId, nodeUrl } };
  }

  #isExpired(sandbox: Sandbox): boolean {
    return sandbox.phase === 'ready' && expiryOf(sandbox, this.#parts.clock.nowMs()).kind === 'expired';
  }

  async #clearAway(there: Sandbox): Promise<void> {
    const { store, clock, events } = this.#parts;
    const reason = there.phase === 'failed' ? `replaced; it had failed: ${there.reason ?? 'unknown'}` : 'expired';
    const gone = await store.wanted.terminate(there.workspace, there.name, { reason, atMs: clock.nowMs(), who: there });
    if (!gone) return;
    events.ended(gone, there.phase === 'failed' ? 'replaced' : 'expired');
    this.#endings.beginInBackground({ ...there, reason });
  }
}

function keyOf(sandbox: Sandbox): string {
  return `${sandbox.instanceId}/${sandbox.generation}`;
}
