/** The run plane's door: `/<workspace>/sandboxes/<name>/…`. A refused request never reaches a node, so it wakes nothing. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Route } from '@torpor/contracts';
import type { Admission, Caller } from '../callers/admission.ts';
import { whileKeyLasts, type OpenUses } from '../callers/open-uses.ts';
import type { Audit } from '../control/audit.ts';
import { answerEmpty, type Ending, type Exchange } from '../front/exchange.ts';
import { OPEN_CORS } from '../previews/door.ts';
import type { RouteBook } from '../ways/route-book.ts';
import type { Target } from '../ways/target.ts';
import { carry, type Carrier, type Load } from './carry.ts';
import { breakOff } from './forward.ts';
import { carryUpgrade, reset, type Upgrade } from './upgrade.ts';

export type SandboxTarget = Extract<Target, { kind: 'sandbox' }>;

export interface SandboxDoor {
  readonly admission: Admission;
  readonly uses: Pick<OpenUses, 'hold'>;
  readonly routes: RouteBook;
  readonly carrier: Carrier;
  readonly audit: Audit;
}

async function admitSandbox(
  door: SandboxDoor,
  headers: IncomingHttpHeaders,
  target: SandboxTarget,
  notes: Record<string, unknown>,
): Promise<{ caller: Caller; load: Load }> {
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
  const load: Load = {
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
  return { caller, load };
}

export async function serveSandbox(door: SandboxDoor, exchange: Exchange, target: SandboxTarget): Promise<Ending> {
  const { headers, method } = exchange.request;
  // A browser's question before the request: it carries no key, and nothing inside needs to hear it.
  if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) {
    answerEmpty(exchange, 204, OPEN_CORS);
    return { status: 204, outcome: 'answered' };
  }
  const { notes, response } = exchange;
  const { caller, load } = await admitSandbox(door, headers, target, notes);
  const use = { key: caller.key, notes, breakOff: () => breakOff(response) };
  return whileKeyLasts(door.uses, use, () => carry(door.carrier, exchange, load));
}

/** Rejects with a Failure only while nothing was sent to the caller. */
export async function upgradeSandbox(door: SandboxDoor, upgrade: Upgrade, target: SandboxTarget): Promise<Ending> {
  const { notes, socket } = upgrade;
  const { caller, load } = await admitSandbox(door, upgrade.request.headers, target, notes);
  const use = { key: caller.key, notes, breakOff: () => reset(socket) };
  return whileKeyLasts(door.uses, use, () => carryUpgrade(door.carrier, upgrade, load));
}
