import { SandboxName, type Sandbox, type SandboxAsk, type WorkspaceName } from '@torpor/contracts';
import { Failure, type Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import { z } from 'zod';
import { once } from '../control/idempotency.ts';
import type { Sandboxes } from './sandboxes.ts';

/** A name may come to mean another sandbox; the id never does. */
const Kept = z.object({ name: SandboxName, instanceId: z.string() });

/** `before`: made by an earlier request with the same key. Rejects with `gone` when what that one made is no more. */
export async function createOnce(
  parts: { sandboxes: Sandboxes; store: Store; clock: Clock },
  about: { workspace: WorkspaceName; key: string | undefined; request: unknown; traceparent: string },
  askOf: () => Promise<SandboxAsk>,
): Promise<{ kind: 'created' | 'existing' | 'before'; sandbox: Sandbox }> {
  const { sandboxes, store, clock } = parts;
  const { workspace, key, request, traceparent } = about;
  let made: Awaited<ReturnType<Sandboxes['create']>> | undefined;
  const kept = await once(
    { shelf: store.workspace(workspace).idempotency, clock, key, request },
    (answer) => Kept.parse(answer),
    async () => {
      made = await sandboxes.create(await askOf(), traceparent);
      return { name: made.sandbox.name, instanceId: made.sandbox.instanceId };
    },
  );
  if (made) return made;
  const sandbox = await sandboxes.get(workspace, kept.name);
  if (sandbox.instanceId === kept.instanceId) return { kind: 'before', sandbox };
  throw new Failure('gone', `the sandbox "${kept.name}" that this Idempotency-Key made exists no more`);
}
