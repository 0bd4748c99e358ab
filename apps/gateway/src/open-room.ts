/** The real outside of the gateway, from its two files. */
import { natsWire } from '@torpor/bus';
import { GatewayConfig, GatewaySecrets, readRoomConfig } from '@torpor/config';
import { explain, Lifetime, systemChance, systemClock } from '@torpor/kernel';
import { aesSealing, pgStore, type Store } from '@torpor/store';
import { openTelemetry } from '@torpor/telemetry';
import { openGateway } from './gateway.ts';

export async function openRoom(): Promise<Lifetime> {
  const { config, secrets } = readGatewayConfig();
  const lifetime = new Lifetime();
  const { version, logLevel, otlpEndpoint } = config;
  const telemetry = openTelemetry({ room: 'gateway', version, logLevel, otlpEndpoint });
  lifetime.own('telemetry', () => telemetry.close());
  const onTrouble = (doing: string, error: unknown) =>
    telemetry.log.warn('background work failed', { doing, problem: explain(error) });
  const store = await openStore(config, secrets, onTrouble);
  lifetime.own('the store', () => store.close());
  const { url, user } = config.nats;
  const wire = await natsWire({ url, user, password: secrets.natsPassword, room: 'gateway', onTrouble });
  lifetime.own('the wire', () => wire.close());
  const gateway = await openGateway({
    config,
    secrets,
    clock: systemClock,
    chance: systemChance,
    wire,
    store,
    telemetry,
  });
  lifetime.own('the gateway', () => gateway.close());
  telemetry.log.info('the gateway is open', { port: gateway.port, publicUrl: config.publicUrl });
  return lifetime;
}

export function readGatewayConfig(): { config: GatewayConfig; secrets: GatewaySecrets } {
  return readRoomConfig({ config: GatewayConfig, secrets: GatewaySecrets });
}

/** Brings the database to this version's shape first. */
export function openStore(
  config: GatewayConfig,
  secrets: GatewaySecrets,
  onTrouble: (doing: string, error: unknown) => void,
): Promise<Store> {
  return pgStore({
    url: secrets.databaseUrl,
    poolMax: config.database.poolMax,
    sealing: aesSealing({ key: secrets.sealingKey, chance: systemChance }),
    onIdleError: (error) => onTrouble('holding a connection to the database', error),
  });
}
