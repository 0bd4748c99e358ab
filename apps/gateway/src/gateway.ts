/** Puts the gateway together from what it is given. */
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Wire } from '@torpor/bus';
import type { GatewayConfig, GatewaySecrets } from '@torpor/config';
import { openNodes } from './services/nodes.ts';
import { Lifetime, type Chance, type Clock } from '@torpor/kernel';
import type { PreviewWay, Store } from '@torpor/store';
import { serveObserve, type Telemetry } from '@torpor/telemetry';
import { controlRows } from './blaxel/rows.ts';
import { openAdmission } from './callers/admission.ts';
import { openKeyring } from './callers/keyring.ts';
import { openAudit } from './control/audit.ts';
import { gatewayEvents } from './events.ts';
import { openReception } from './front/reception.ts';
import { createFront, FRONT_LIMITS, type FrontLimits } from './front/server.ts';
import { openLiveStates } from './sandboxes/live-states.ts';
import { openOffers } from './sandboxes/offer.ts';
import { unlimited, type Quotas } from './sandboxes/quotas.ts';
import { openSandboxes } from './sandboxes/sandboxes.ts';
import { serveRpc } from './services/rpc.ts';
import { Remembered } from './ways/remembered.ts';
import { RouteBook } from './ways/route-book.ts';
import type { Carrier } from './run-plane/carry.ts';
import { NodeConnections } from './run-plane/node-connections.ts';

export interface GatewayParts {
  readonly config: Pick<GatewayConfig, 'listen' | 'publicUrl' | 'observe'>;
  readonly secrets: Pick<GatewaySecrets, 'dataKey' | 'sealingKey'>;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly wire: Wire;
  readonly store: Store;
  readonly telemetry: Telemetry;
  readonly quotas?: Quotas;
  /** Shorter ones for tests. */
  readonly limits?: Partial<FrontLimits & Carrier['timers'] & { controlBodyMs: number }>;
}

export interface Gateway {
  readonly port: number;
  readonly observePort: number;
  /** Lets go of every connection; sandboxes notice nothing but that. */
  close(): Promise<void>;
}

const CONNECT_MS = 2_000;
/** Shorter than a node keeps a silent connection (120 s), so that it is not closed under a request. */
const KEEP_MS = 60_000;

export async function openGateway(parts: GatewayParts): Promise<Gateway> {
  const { config, secrets, clock, chance, wire, store, telemetry } = parts;
  const { publicUrl } = config;
  const lifetime = new Lifetime();
  const events = gatewayEvents(telemetry);
  const onTrouble = events.troubled;

  const keyring = await openKeyring({ store, wire, clock, lifetime, onTrouble });
  const audit = openAudit({ store, clock, lifetime, onTrouble });
  const admission = openAdmission({ keyring, audit });
  const routes = new RouteBook({ store, clock, hints: wire.hints });
  const live = await openLiveStates({ wire, store, clock, lifetime });
  live.onEvent(({ instance }) => {
    if (instance.state === 'deleted' || instance.state === 'failed') routes.forgetInstance(instance.instanceId);
  });
  const book = new Remembered<PreviewWay>({
    clock,
    read: (id) => store.publicPreviews.find(id),
    freshMs: 1_000,
    lifeMs: 2_000,
    missMs: 250,
    graceMs: 600_000,
    entriesMax: 10_000,
  });
  const offers = openOffers({ store, clock });
  const sandboxes = openSandboxes({ wire, store, clock, routes, quotas: parts.quotas ?? unlimited });

  const nodes = new NodeConnections({ connectMs: CONNECT_MS, keepMs: KEEP_MS });
  lifetime.own('the connections to nodes', () => nodes.close());
  const timers = { bodyIdleMs: 60_000, drainMs: 120_000, reachMs: CONNECT_MS, lingerMs: 5_000, ...parts.limits };
  const carrier: Carrier = { nodes, clock, dataKey: secrets.dataKey, timers };

  const bodyMs = parts.limits?.controlBodyMs ?? 30_000;
  const operated = openNodes({ store, wire });
  const shared = {
    wire,
    sandboxes,
    nodes: operated,
    live,
    offers,
    store,
    audit,
    clock,
    chance,
    publicUrl,
    keyring,
    admission,
  };
  const reception = openReception({
    clock,
    chance,
    telemetry,
    events,
    doors: {
      control: {
        rows: controlRows({ ...shared, book, idKey: secrets.sealingKey, onTrouble }),
        admission,
        store,
        audit,
        clock,
        bodyMs,
      },
      sandbox: { admission, uses: keyring.uses, routes, carrier, audit },
      preview: { book, routes, carrier, audit, clock, isTls: publicUrl.startsWith('https:') },
      rpc: (exchange, path) =>
        serveRpc(
          { ...shared, bodyMs, onBug: (error) => events.broke({ plane: 'rpc', id: exchange.id, error }) },
          exchange,
          path,
        ),
    },
  });

  const upgraded = new Set<Duplex>();
  const front = createFront(
    { ...FRONT_LIMITS, ...parts.limits },
    {
      clock,
      onUnreadable: events.unreadable,
      onRequest: (request, response) => void reception.request(request, response),
      onUpgrade: (request, socket, head) => {
        upgraded.add(socket);
        socket.once('close', () => upgraded.delete(socket));
        void reception.upgrade(request, socket, head);
      },
    },
  );
  await new Promise<void>((resolve, reject) => {
    front.once('error', reject).listen(config.listen.port, config.listen.host, 4_096, resolve);
  });
  lifetime.own('the front', async () => {
    const closed = new Promise((resolve) => front.close(resolve));
    front.closeAllConnections();
    for (const socket of upgraded) socket.destroy();
    await closed;
  });

  const observed = await serveObserve(config.observe, telemetry, async () => {
    const trouble = await store.ping().then(
      () => undefined,
      () => 'the database does not answer',
    );
    // Without its database the gateway still carries requests to sandboxes it knows.
    return { ok: true, degraded: trouble };
  });
  lifetime.own('the observation port', () => observed.close());

  // A TCP server's address is never a pipe's name.
  return { port: (front.address() as AddressInfo).port, observePort: observed.port, close: () => lifetime.close() };
}
