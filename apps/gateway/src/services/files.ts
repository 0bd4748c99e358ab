/** Files between two points: which node knows both, and what it is asked. */
import type { Wire } from '@torpor/bus';
import type { DiffInput, DiffView, FilePointInput, MergeInput, MergeView } from '@torpor/api';
import { compareFiles, mergeFiles, type FilePoint, type Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Caller } from '../callers/admission.ts';
import type { Sandboxes } from '../sandboxes/sandboxes.ts';

export interface FilesParts {
  readonly wire: Wire;
  readonly sandboxes: Sandboxes;
}

interface Asked {
  readonly caller: Caller;
  readonly traceparent: string;
}

/** A point, and the sandbox whose node has it. */
interface Found {
  readonly point: FilePoint;
  readonly of: Sandbox;
  /** The snapshot that the fork was made of, of a base. */
  readonly base?: string;
}

export async function diffOf(parts: FilesParts, asked: Asked, { from, to, under }: DiffInput): Promise<DiffView> {
  const [was, is] = await Promise.all([found(parts, asked, from), found(parts, asked, to)]);
  if (was.of.nodeId !== is.of.nodeId) throw apart(was.of, is.of);
  const ask = { from: was.point, to: is.point, ...(under === undefined ? {} : { under }) };
  try {
    return await parts.wire.ask(compareFiles, ask, { node: is.of.nodeId, traceparent: asked.traceparent });
  } catch (error) {
    throw told(error, was, is);
  }
}

/** Into the sandbox that it was forked from, and no other: nothing else has their base. */
export async function mergeOf(parts: FilesParts, asked: Asked, input: MergeInput): Promise<MergeView> {
  const { fork: name, into, settle, dryRun, under } = input;
  const [fork, base] = await Promise.all([
    found(parts, asked, { name, at: 'now' }),
    found(parts, asked, { name, at: 'base' }),
  ]);
  const here = base.of;
  if (here.name !== into) throw new Failure('conflict', `"${name}" is a fork of "${here.name}", not of "${into}"`);
  if (here.nodeId !== fork.of.nodeId) throw apart(here, fork.of);
  const { instanceId, generation } = here;
  const ask = {
    base: base.point,
    fork: fork.point,
    here: { instanceId, generation },
    dryRun,
    by: asked.caller.key.subject,
    ...(settle === undefined ? {} : { settle }),
    ...(under === undefined ? {} : { under }),
  };
  try {
    return await parts.wire.ask(mergeFiles, ask, { node: here.nodeId, traceparent: asked.traceparent });
  } catch (error) {
    throw told(error, base);
  }
}

async function found({ sandboxes }: FilesParts, { caller }: Asked, { name, at }: FilePointInput): Promise<Found> {
  const sandbox = await sandboxes.living(caller.workspace, name);
  if (at !== 'base') return { point: pointOf(sandbox, at), of: sandbox };
  const { origin } = sandbox;
  if (!origin) throw new Failure('conflict', `"${name}" is no fork, so it has no base`);
  // Another of its name may live by now: only the very one has the base.
  const parent = await sandboxes.living(caller.workspace, origin.name).catch((error: unknown) => {
    throw error instanceof Failure && error.code === 'not_found' ? baseGone(error) : error;
  });
  if (parent.instanceId !== origin.instanceId) throw baseGone();
  return { point: pointOf(parent, { snapshot: origin.snapshot }), of: parent, base: origin.snapshot };
}

function pointOf({ instanceId, generation }: Sandbox, at: FilePoint['at']): FilePoint {
  return { instanceId, generation, at };
}

/** A snapshot that is missed may be the base of a fork. */
function told(error: unknown, ...points: readonly Found[]): unknown {
  const missed = error instanceof Failure ? error.details?.['snapshot'] : undefined;
  return missed !== undefined && points.some(({ base }) => base === missed) ? baseGone(error) : error;
}

function baseGone(cause?: unknown): Failure {
  const why = 'the snapshot that the fork was made of was deleted, or has gone by itself or with its sandbox';
  return new Failure('not_found', `the base of the fork is gone: ${why}; compare the two as they are now instead`, {
    cause,
  });
}

function apart(a: Sandbox, b: Sandbox): Failure {
  return new Failure(
    'conflict',
    `"${a.name}" is on the node ${a.nodeId} and "${b.name}" on ${b.nodeId}; files are compared on one: torpor sandbox move`,
  );
}
