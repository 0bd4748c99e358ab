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
import { placeNow } from '../changes/snapshots.ts';
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
  const source = await sourceOf(parts, ask);
  const { parent } = source;
  const name = ask.as ?? freshName(chance);
  // Refused before anything stalls for it.
  if (await store.wanted.living(ask.workspace, name)) throw taken(ask, name);
  const env = { ...source.env, ...ask.env };
  const heavy = envBytes(Object.entries(env));
  if (heavy > ENV_BYTES_MAX) throw tooHeavy(parent, heavy);
  await fleet.refresh(store);
  const placement = births.place(parent, [], parent.nodeId);
  if (placement.kind === 'refused') throw refusal(`"${parent.name}" could not be forked`, placement);

  const beganAtMs = clock.monotonicMs();
  const { id: snapshot, volumes = [] } = await snapshotOf(parts, source, ask.createdBy, traceparent);
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

/** What it is made of. `snapshot` absent: of its parent as it is now. */
interface Source {
  readonly parent: Sandbox;
  readonly env: Readonly<Record<string, string>> | undefined;
  readonly snapshot: string | undefined;
}

async function sourceOf(parts: Parts, ask: Ask): Promise<Source> {
  if (ask.name === undefined) return await sourceOnRecord(parts, ask);
  const { store } = parts;
  const parent = await store.wanted.living(ask.workspace, ask.name);
  if (!parent) throw new Failure('not_found', `there is no sandbox "${ask.name}" in workspace "${ask.workspace}"`);
  if (parent.phase !== 'ready') throw unready(parent);
  return { parent, env: await store.wanted.envOf(parent), snapshot: ask.snapshot };
}

/** Its sandbox may have ended, and was perhaps another when the snapshot was made than it is now. */
async function sourceOnRecord({ store }: Parts, { workspace, snapshot }: Ask): Promise<Source> {
  if (snapshot === undefined) {
    throw new Failure('bad_request', 'expected the name of a sandbox, or the id of a snapshot, or both');
  }
  const record = await store.snapshots.find(workspace, snapshot);
  if (!record) throw new Failure('not_found', `there is no snapshot "${snapshot}" in workspace "${workspace}"`);
  return { parent: record.sandbox, env: await store.snapshots.envOf(workspace, snapshot), snapshot };
}

/** The one that is asked for, or one made now. */
async function snapshotOf(
  parts: Parts,
  { parent, snapshot: which }: Source,
  by: string,
  traceparent: string,
): Promise<Snapshot> {
  const { wire, closing: signal } = parts;
  const { instanceId, generation, nodeId } = await placeNow(parts, parent);
  const options = { node: nodeId, signal, traceparent };
  if (which === undefined) {
    const ask = { instanceId, generation, because: 'fork' as const, by };
    return (await wire.ask(makeSnapshot, ask, options)).snapshot;
  }
  const { snapshots } = await wire.ask(listSnapshots, { instanceId, generation }, options);
  const usable = snapshots.filter(({ state }) => state === 'ready');
  const found = usable.find(({ id }) => id === which) ?? usable.find((one) => one.name === which);
  if (!found) throw new Failure('not_found', `the sandbox "${parent.name}" has no snapshot "${which}"`);
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
  const { workspace, nodeId, labels, template, image, shape, ports, expiry, terminatedRetentionMs, extra } = parent;
  const { idle, wakeBudget, snapshotLimits } = parent;
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
    ...(snapshotLimits ? { snapshotLimits } : {}),
    ...(wakeBudget ? { wakeBudget } : {}),
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

function tooHeavy({ name }: Sandbox, bytes: number): Failure {
  const what = `with what is added to it, the environment of "${name}" takes ${bytes} bytes`;
  return new Failure('bad_request', `${what}; expected at most ${ENV_BYTES_MAX}`);
}

function taken({ workspace }: Ask, name: string): Failure {
  return new Failure('conflict', `a sandbox "${name}" exists already in workspace "${workspace}"`);
}
