/** The dialect's snapshots of a sandbox, and its forks. */
import { SnapshotName, type Sandbox } from '@torpor/contracts';
import { blaxelError, parseBlaxelForkAsk, parseBlaxelSnapshotAsk, toBlaxelSnapshot } from '@torpor/dialects';
import type { Sandboxes } from '../sandboxes/sandboxes.ts';
import { need, Refused, type ControlAsk, type Row } from './ask.ts';
import { nameIn } from './sandboxes.ts';

export interface SnapshotRowsParts {
  readonly sandboxes: Sandboxes;
}

export function snapshotRows({ sandboxes }: SnapshotRowsParts): Row[] {
  const theOne = (ask: ControlAsk) => sandboxes.living(ask.caller.workspace, nameIn(ask));

  async function make(ask: ControlAsk, of: Sandbox, name: string | undefined): Promise<unknown> {
    const how = { by: ask.caller.key.subject, ...(name === undefined ? {} : { name }) };
    return toBlaxelSnapshot(await sandboxes.snapshot(of, how, ask.exchange.span.traceparent), of);
  }

  return [
    {
      method: 'GET',
      pattern: '/sandboxes/:name/snapshots',
      action: 'sandboxes:read',
      handle: async (ask) => {
        const of = await theOne(ask);
        const all = await sandboxes.snapshots(of, ask.exchange.span.traceparent);
        return all.map((snapshot) => toBlaxelSnapshot(snapshot, of));
      },
    },
    {
      method: 'POST',
      pattern: '/sandboxes/:name/snapshots',
      action: 'sandboxes:write',
      audit: 'snapshot.create',
      handle: async (ask) => {
        const { name } = need(parseBlaxelSnapshotAsk(await ask.json()));
        return make(ask, await theOne(ask), name);
      },
    },
    {
      method: 'POST',
      pattern: '/snapshots',
      action: 'sandboxes:write',
      audit: 'snapshot.create',
      handle: async (ask) => {
        const { name, source } = need(parseBlaxelSnapshotAsk(await ask.json()));
        if (source === undefined)
          throw new Refused(blaxelError(400, 'source.name is missing; expected the name of a sandbox'));
        return make(ask, await sandboxes.living(ask.caller.workspace, source), name);
      },
    },
    {
      method: 'DELETE',
      pattern: '/sandboxes/:name/snapshots/:snapshotId',
      action: 'sandboxes:write',
      audit: 'snapshot.delete',
      handle: async (ask) => {
        const of = await theOne(ask);
        return toBlaxelSnapshot(
          await sandboxes.dropSnapshot(
            of.workspace,
            { of: of.name, snapshot: which(ask) },
            ask.exchange.span.traceparent,
          ),
          of,
        );
      },
    },
    {
      method: 'POST',
      pattern: '/sandboxes/:name/snapshots/:snapshotId/restore',
      action: 'sandboxes:write',
      audit: 'snapshot.restore',
      handle: async (ask) => {
        const of = await theOne(ask);
        const { snapshot } = await sandboxes.restore(of, which(ask), ask.exchange.span.traceparent);
        return { name: of.name, snapshotId: snapshot.id };
      },
    },
    {
      method: 'POST',
      pattern: '/sandboxes/:name/fork',
      action: 'sandboxes:write',
      audit: 'sandbox.fork',
      handle: async (ask) => {
        const { as, env, snapshot: from } = need(parseBlaxelForkAsk(await ask.json()));
        const { workspace, name } = await theOne(ask);
        const how = {
          of: name,
          as,
          env,
          by: ask.caller.key.subject,
          ...(from === undefined ? {} : { snapshot: from }),
        };
        const { sandbox, snapshot } = await sandboxes.fork(workspace, how, ask.exchange.span.traceparent);
        return { name: sandbox.name, snapshotId: snapshot, type: 'sandbox' };
      },
    },
  ];
}

/** A name that cannot be one names nothing. */
function which(ask: ControlAsk): string {
  const name = SnapshotName.safeParse(ask.params['snapshotId']);
  if (name.success) return name.data;
  throw new Refused(blaxelError(404, 'this sandbox has no snapshot of that name or id'));
}
