import { newInstanceId, setInstancePolicy, updateSandbox, type Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';
import type { Births } from '../creation/births.ts';
import type { Creation } from '../creation/create.ts';
import { nextGeneration } from '../creation/new-sandbox.ts';
import { refusal } from '../creation/refusal.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';
import type { Endings } from './endings.ts';
import { policyOf } from './policy.ts';

type Ask = z.infer<typeof updateSandbox.request>;
type Env = Readonly<Record<string, string>>;

interface Around {
  readonly births: Births;
  readonly creation: Creation;
  readonly endings: Endings;
  readonly hints: RouteHints;
}

/** Changes a living sandbox in place; a changed env restarts it as the next incarnation, with its files gone but for the snapshots that somebody asked for. */
export async function changeSandbox(
  parts: Parts,
  around: Around,
  ask: Ask,
  traceparent: string | undefined,
): Promise<Sandbox> {
  const { store, clock, events } = parts;
  const untilMs = clock.monotonicMs() + updateSandbox.deadlineMs;
  const { workspace, name, env, ...given } = ask;
  const change = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const revised = await store.wanted.revise(workspace, name, change, clock.nowMs());
  if (!revised) throw new Failure('not_found', `there is no sandbox "${name}" in workspace "${workspace}"`);
  const restart = env !== undefined && !isSameEnv(env, await store.wanted.envOf(revised));
  if (restart) {
    const sandbox = await restartWith(parts, around, { sandbox: revised, env, untilMs, traceparent });
    events.updated(sandbox, { changed: [...Object.keys(change), 'env'], restarted: true });
    return sandbox;
  }
  const isOfPolicy = [ask.idle, ask.wakeBudget, ask.snapshotLimits].some((part) => part !== undefined);
  if (isOfPolicy && revised.phase === 'ready') await tellPolicy(parts, revised);
  events.updated(revised, { changed: Object.keys(change), restarted: false });
  return revised;
}

/** The record has the new policy by now. A node that does not hear of it now is told again when its next report shows the old one. */
async function tellPolicy({ wire, store }: Parts, sandbox: Sandbox): Promise<void> {
  const { instanceId, generation, nodeId, name } = sandbox;
  const policy = await policyOf(store, sandbox);
  try {
    await wire.ask(setInstancePolicy, { instanceId, generation, ...policy }, { node: nodeId });
  } catch (error) {
    const message = `the new policy of "${name}" is on record, but its node has not confirmed it; asking again helps`;
    throw new Failure('unavailable', message, { retryable: true, cause: error });
  }
}

async function restartWith(
  parts: Parts,
  around: Around,
  {
    sandbox,
    env,
    untilMs,
    traceparent,
  }: { sandbox: Sandbox; env: Env; untilMs: number; traceparent: string | undefined },
): Promise<Sandbox> {
  if (sandbox.phase !== 'ready') {
    throw new Failure('conflict', `the sandbox "${sandbox.name}" is just being started; change its env afterwards`, {
      retryable: true,
    });
  }
  const isBound = (await parts.store.volumes.of(sandbox.instanceId)).length > 0; // they stay on their node
  const placement = around.births.place(sandbox, [], isBound ? sandbox.nodeId : undefined);
  if (placement.kind === 'refused') throw refusal(`the sandbox "${sandbox.name}" could not be restarted`, placement);
  const reason = 'restarted with another env';
  const next = await parts.store.wanted.supersede(sandbox, {
    instanceId: newInstanceId(parts.chance),
    generation: nextGeneration(sandbox),
    nodeId: placement.nodeId,
    atMs: parts.clock.nowMs(),
    reason,
    env,
    from: 'ready',
  });
  if (!next)
    throw new Failure('conflict', `the sandbox "${sandbox.name}" was changed by somebody else at the same time`, {
      retryable: true,
    });
  around.hints.drop(sandbox);
  // What is kept of it stands in the ending alone.
  const [ending] = await parts.store.wanted.endings({ instanceIds: [sandbox.instanceId] });
  around.endings.beginInBackground(ending ?? { ...sandbox, reason });
  const birth = await around.creation.bring(next, { env, untilMs, ...(traceparent ? { traceparent } : {}) });
  around.hints.tell(birth.sandbox, birth.route);
  return birth.sandbox;
}

function isSameEnv(a: Env, b: Env | undefined): boolean {
  const names = Object.keys(a);
  return b !== undefined && names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
