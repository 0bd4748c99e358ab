import { natsWire } from '@torpor/bus';
import { readRoomConfig, SchedulerConfig, SchedulerSecrets } from '@torpor/config';
import { explain, Lifetime, systemChance, systemClock } from '@torpor/kernel';
import { aesSealing, pgStore } from '@torpor/store';
import { openTelemetry, serveObserve } from '@torpor/telemetry';
import { keptMs } from './parts.ts';
import { openScheduler } from './sandbox-scheduler.ts';

const { config, secrets } = readRoomConfig({ config: SchedulerConfig, secrets: SchedulerSecrets });
const lifetime = new Lifetime();
const telemetry = openTelemetry({ room: 'scheduler', ...config });
const trouble = (what: string, error: unknown) => telemetry.log.warn(what, { reason: explain(error) });
lifetime.own('telemetry', () => telemetry.close());
const sealing = aesSealing({ key: secrets.sealingKey, chance: systemChance });
const onIdleError = (error: Error) => trouble('database connection broke', error);
const store = await pgStore({ url: secrets.databaseUrl, ...config.database, sealing, onIdleError });
lifetime.own('store', () => store.close());
const wire = await natsWire({ ...config.nats, password: secrets.natsPassword, room: 'scheduler', onTrouble: trouble });
lifetime.own('wire', () => wire.close());
const { usageDays, auditDays } = config.retention;
const times = { leaseMs: config.leaseMs, usageKeptMs: keptMs(usageDays), auditKeptMs: keptMs(auditDays) };
const scheduler = await openScheduler({ store, wire, telemetry, clock: systemClock, chance: systemChance, times });
lifetime.own('scheduler', () => scheduler.close());
const health = async () => ({
  ok:
    wire.isConnected() &&
    (await store.ping().then(
      () => true,
      () => false,
    )),
});
const observation = await serveObserve(config.observe, telemetry, health);
lifetime.own('observation', () => observation.close());
telemetry.log.info('scheduler is open', { observe: observation.port });
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void lifetime.close());
