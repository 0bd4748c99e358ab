/** A fork is a create that has its parent's memory, processes and files: placed on the node where those are, and a row of its own from the first commit on. */
import {
  createSandbox,
  ENV_BYTES_MAX,
  envBytes,
  listSnapshots,
  makeSnapshot,
  newInstanceId,
  type forkSandbox,
  type Sandbox,
  type Snapshot,
} from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';
import { claimCopies } from '../volumes/claims.ts';
import type { Births } from './births.ts';
import type { Creation } from './create.ts';
import { freshName, nextGeneration } from './new-sandbox.ts';
import { refusal } from './refusal.ts';

type Ask = z.infer<typeof forkSandbox.request>;
type Answer = z.infer<typeof forkSandbox.reply>;

interface Around {
  readonly births: Births;
  readonly creation: Creation;
  readonly fleet: FleetView;
  readonly hints: RouteHints;
}

export async function forkOf(
  parts: Parts,
  { births, creation, fleet, hints }: Around,
  ask: Ask,
  traceparent: string,
): Promise<Answer> {
  const { store, clock, chance, events } = parts;
  const parent = await store.wanted.living(ask.workspace, ask.name);
  if (!parent) throw new Failure('not_found', `there is no sandbox "${ask.name}" in workspace "${ask.workspace}"`);
  if (parent.phase !== 'ready') throw unready(parent);
  const name = ask.as ?? freshName(chance);
  // Refused before anything stalls for it.
  if (await store.wanted.living(ask.workspace, name)) throw taken(ask, name);
  const env = { ...(await store.wanted.envOf(parent)), ...ask.env };
  const heavy = envBytes(Object.entries(env));
  if (heavy > ENV_BYTES_MAX) throw tooHeavy(ask, heavy);
  await fleet.refresh(store);
  const placement = births.place(parent, [], parent.nodeId);
  if (placement.kind === 'refused') throw refusal(`"${ask.name}" could not be forked`, placement);

  const beganAtMs = clock.monotonicMs();
  const { id: snapshot, volumes = [] } = await snapshotOf(parts, parent, ask, traceparent);
  const origin = { instanceId: parent.instanceId, name: parent.name, snapshot };
  const fork = rowOf(parent, { name, origin, env, createdBy: ask.createdBy }, parts);
  const inserted = await store.wanted.insert(fork, env);
  if (inserted.kind === 'taken') throw taken(ask, name);
  await claimCopies(parts, fork, volumes);
  const untilMs = clock.monotonicMs() + createSandbox.deadlineMs;
  const birth = await creation.bring(fork, { env, untilMs, traceparent });
  const tookMs = clock.monotonicMs() - beganAtMs;
  events.created(birth.sandbox, { from: birth.from, tookMs, attempts: birth.attempts });
  hints.tell(birth.sandbox, birth.route);
  return { sandbox: birth.sandbox, route: birth.route, snapshot };
}

/** The one that is asked for, or one made now. */
async function snapshotOf(
  { wire, closing }: Parts,
  { instanceId, generation, nodeId, name }: Sandbox,
  { snapshot: which, createdBy: by }: Ask,
  traceparent: string,
): Promise<Snapshot> {
  const options = { node: nodeId, signal: closing, traceparent };
  if (which === undefined) {
    const ask = { instanceId, generation, because: 'fork' as const, by };
    return (await wire.ask(makeSnapshot, ask, options)).snapshot;
  }
  const { snapshots } = await wire.ask(listSnapshots, { instanceId, generation }, options);
  const usable = snapshots.filter(({ state }) => state === 'ready');
  const found = usable.find(({ id }) => id === which) ?? usable.find((one) => one.name === which);
  if (!found) throw new Failure('not_found', `the sandbox "${name}" has no snapshot "${which}"`);
  return found;
}

/** What made the parent what it is, but for what tells one sandbox from another. Its guest has its parent's generation, and takes only a greater one. */
function rowOf(
  parent: Sandbox,
  own: Pick<Sandbox, 'name' | 'createdBy'> & {
    readonly origin: NonNullable<Sandbox['origin']>;
    readonly env: Readonly<Record<string, string>>;
  },
  { clock, chance }: Parts,
): Sandbox {
  const { workspace, nodeId, labels, template, image, shape, ports, idle, expiry, terminatedRetentionMs, extra } =
    parent;
  const nowMs = clock.nowMs();
  return {
    workspace,
    name: own.name,
    instanceId: newInstanceId(chance),
    generation: nextGeneration(parent),
    nodeId,
    phase: 'creating',
    labels,
    origin: own.origin,
    template,
    image,
    shape,
    ports,
    envNames: Object.keys(own.env).sort(),
    idle,
    expiry,
    terminatedRetentionMs,
    extra,
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
    lastUsedAtMs: nowMs,
    createdBy: own.createdBy,
  };
}

function unready({ name, phase, reason }: Sandbox): Failure {
  const why = reason === undefined ? '' : `: ${reason}`;
  return new Failure('conflict', `the sandbox "${name}" is ${phase}${why}; only one that is ready can be forked`, {
    retryable: phase === 'creating',
  });
}

function tooHeavy({ name }: Ask, bytes: number): Failure {
  const what = `with what is added to it, the environment of "${name}" takes ${bytes} bytes`;
  return new Failure('bad_request', `${what}; expected at most ${ENV_BYTES_MAX}`);
}

function taken({ workspace }: Ask, name: string): Failure {
  return new Failure('conflict', `a sandbox "${name}" exists already in workspace "${workspace}"`);
}
