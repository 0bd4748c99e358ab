/** The run plane's door: `/<workspace>/sandboxes/<name>/…`. A refused request never reaches a node, so it wakes nothing. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Route } from '@torpor/contracts';
import type { Admission } from '../callers/admission.ts';
import type { Audit } from '../control/audit.ts';
import { answerEmpty, type Ending, type Exchange } from '../front/exchange.ts';
import { OPEN_CORS } from '../previews/door.ts';
import type { RouteBook } from '../ways/route-book.ts';
import type { Target } from '../ways/target.ts';
import { carry, type Carrier, type Load } from './carry.ts';

export type SandboxTarget = Extract<Target, { kind: 'sandbox' }>;

export interface SandboxDoor {
  readonly admission: Admission;
  readonly routes: RouteBook;
  readonly carrier: Carrier;
  readonly audit: Audit;
}

export async function admitSandbox(
  door: SandboxDoor,
  headers: IncomingHttpHeaders,
  target: SandboxTarget,
  notes: Record<string, unknown>,
): Promise<Load> {
  notes['workspace'] = target.workspace;
  notes['sandbox'] = target.name;
  notes['part'] = target.part;
  const caller = await door.admission.admit(headers, target.workspace, 'sandboxes:use');
  notes['key'] = caller.key.prefix;
  const { subject: actor, prefix } = caller.key;
  const about = { workspace: target.workspace, actor, target: target.name, details: { key: prefix } };
  const used = (route: Route): Route => {
    door.audit.note({ ...about, action: 'sandbox.use', outcome: 'ok' });
    return route;
  };
  return {
    part: target.part,
    rest: target.rest,
    way: {
      find: () => {
        const known = door.routes.known(target.workspace, target.name);
        return known ? used(known) : door.routes.find(target.workspace, target.name).then(used);
      },
      readAnew: () => door.routes.readAnew(target.workspace, target.name),
    },
  };
}

export async function serveSandbox(door: SandboxDoor, exchange: Exchange, target: SandboxTarget): Promise<Ending> {
  const { headers, method } = exchange.request;
  // A browser's question before the request: it carries no key, and nothing inside needs to hear it.
  if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) {
    answerEmpty(exchange, 204, OPEN_CORS);
    return { status: 204, outcome: 'answered' };
  }
  return carry(door.carrier, exchange, await admitSandbox(door, headers, target, exchange.notes));
}
