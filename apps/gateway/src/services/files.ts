/** Files between two points: which node knows both, and what it is asked. */
import type { Wire } from '@torpor/bus';
import type { DiffInput, DiffView, FilePointInput } from '@torpor/api';
import { compareFiles, type FilePoint, type Sandbox } from '@torpor/contracts';
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
}

export async function diffOf(parts: FilesParts, asked: Asked, { from, to, under }: DiffInput): Promise<DiffView> {
  const [was, is] = await Promise.all([found(parts, asked, from), found(parts, asked, to)]);
  if (was.of.nodeId !== is.of.nodeId) throw apart(was.of, is.of);
  const ask = { from: was.point, to: is.point, ...(under === undefined ? {} : { under }) };
  try {
    return await parts.wire.ask(compareFiles, ask, { node: is.of.nodeId, traceparent: asked.traceparent });
  } catch (error) {
    throw from.at === 'base' || to.at === 'base' ? asBaseGone(error) : error;
  }
}

async function found({ sandboxes }: FilesParts, { caller }: Asked, { name, at }: FilePointInput): Promise<Found> {
  const sandbox = await sandboxes.living(caller.workspace, name);
  if (at !== 'base') return { point: pointOf(sandbox, at), of: sandbox };
  const { origin } = sandbox;
  if (!origin) throw new Failure('conflict', `"${name}" is no fork, so it has no base`);
  // Another of its name may live by now: only the very one has the base.
  const parent = await sandboxes.living(caller.workspace, origin.name).catch((error: unknown) => {
    throw asBaseGone(error);
  });
  if (parent.instanceId !== origin.instanceId) throw new Failure('not_found', BASE_GONE);
  return { point: pointOf(parent, { snapshot: origin.snapshot }), of: parent };
}

function pointOf({ instanceId, generation }: Sandbox, at: FilePoint['at']): FilePoint {
  return { instanceId, generation, at };
}

const BASE_GONE =
  'the base is gone: the snapshot that the fork was made of was deleted, or has gone by itself or with its sandbox; compare the two as they are now instead';

function asBaseGone(error: unknown): unknown {
  const isGone = error instanceof Failure && error.code === 'not_found';
  return isGone ? new Failure('not_found', BASE_GONE, { cause: error }) : error;
}

function apart(a: Sandbox, b: Sandbox): Failure {
  return new Failure(
    'conflict',
    `"${a.name}" is on the node ${a.nodeId} and "${b.name}" on ${b.nodeId}; files are compared on one: torpor sandbox move`,
  );
}
