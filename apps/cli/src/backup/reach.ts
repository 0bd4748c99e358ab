/** How this machine's root reaches the foundations of its own stack. */
import type { Installation } from '../up/installation.ts';
import { keysOf } from '../up/keys.ts';
import { placesOf } from '../up/places.ts';

export interface Reach {
  readonly databaseUrl: string;
  readonly dataKey: string;
  bus(user: 'gateway' | 'scheduler' | `node-${string}`): { url: string; user: string; password: string };
}

export async function reachOf(installation: Installation, env: NodeJS.ProcessEnv = process.env): Promise<Reach> {
  const [keys, { ports }] = [await keysOf(installation), await placesOf(installation)];
  const given = env.NATS_URL === undefined ? undefined : new URL(env.NATS_URL);
  return {
    databaseUrl:
      env.DATABASE_URL ?? `postgres://torpor_owner:${keys.database.owner}@127.0.0.1:${ports.postgres}/postgres`,
    dataKey: keys.dataKey,
    bus: (user) =>
      given
        ? { url: given.host, user: decodeURIComponent(given.username), password: decodeURIComponent(given.password) }
        : {
            url: `127.0.0.1:${ports.nats}`,
            user,
            password: keys.nats[user === 'gateway' || user === 'scheduler' ? user : 'node'],
          },
  };
}
