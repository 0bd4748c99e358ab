/** Several forks of one sandbox: the first makes the snapshot, the others share it. */
import type { ForkInput, ForksView } from '@torpor/api';
import { SandboxName, type Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Caller } from '../callers/admission.ts';
import type { Sandboxes } from '../sandboxes/sandboxes.ts';

/** Nobody is served sooner by more at once. */
const AT_ONCE = 4;

/** Rejects when there is none. */
export async function forksOf(
  sandboxes: Sandboxes,
  { caller, traceparent }: { readonly caller: Caller; readonly traceparent: string },
  { name, as, count, env, snapshot: given }: ForkInput,
): Promise<{ snapshot: string; made: Sandbox[]; failed: ForksView['failed'] }> {
  if (name !== undefined) await sandboxes.living(caller.workspace, name);
  const names = namesOf(as, count);
  const fork = (own: SandboxName | undefined, snapshot: string | undefined) =>
    sandboxes.fork(
      caller.workspace,
      {
        ...(name === undefined ? {} : { of: name }),
        env,
        by: caller.key.subject,
        ...(own === undefined ? {} : { as: own }),
        ...(snapshot === undefined ? {} : { snapshot }),
      },
      traceparent,
    );
  const { sandbox, snapshot } = await fork(names[0], given);
  const made = [sandbox];
  const failed: ForksView['failed'] = [];
  const left = names.slice(1);
  await Promise.all(
    Array.from({ length: Math.min(AT_ONCE, left.length) }, async () => {
      while (left.length > 0) {
        const own = left.shift();
        try {
          made.push((await fork(own, snapshot)).sandbox);
        } catch (error) {
          if (!(error instanceof Failure)) throw error;
          failed.push({ ...(own === undefined ? {} : { name: own }), code: error.code, message: error.message });
        }
      }
    }),
  );
  return { snapshot, made, failed };
}

function namesOf(as: SandboxName | undefined, count: number): (SandboxName | undefined)[] {
  if (as === undefined || count === 1) return Array.from({ length: count }, () => as);
  return Array.from({ length: count }, (_, at) => {
    const name = SandboxName.safeParse(`${as}-${at + 1}`);
    if (name.success) return name.data;
    throw new Failure(
      'bad_request',
      `"${as}-${at + 1}" is too long for the name of a sandbox; expected at most 49 signs`,
    );
  });
}
