import { Kvm, type KV, type KvEntry } from '@nats-io/kv';
import { StorageType } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import type { Hints } from './wire.ts';

/** Hints in a NATS key-value bucket kept in memory. A hint that cannot be read or written is no hint: nobody may depend on one. */
export async function natsHints(connection: NatsConnection): Promise<Hints> {
  let bucket: KV | undefined;
  const open = async () => {
    bucket ??= await new Kvm(connection).create('hints', {
      storage: StorageType.Memory,
      history: 1,
      max_bytes: 64 << 20,
    });
    return bucket;
  };
  const gently = async <T>(work: (kv: KV) => Promise<T>): Promise<T | undefined> => {
    try {
      return await work(await open());
    } catch {
      // The bucket lives in the server's memory and dies with it; it is made anew at the next use.
      bucket = undefined;
      return undefined;
    }
  };
  return {
    get: (key) => gently(async (kv) => live(await kv.get(encode(key)))),
    put: async (key, value) => {
      await gently((kv) => kv.put(encode(key), value));
    },
    drop: async (key) => {
      await gently((kv) => kv.delete(encode(key)));
    },
  };
}

/** A deleted key is remembered as an entry that says so. */
function live(entry: KvEntry | null): string | undefined {
  return entry?.operation === 'PUT' ? entry.string() : undefined;
}

/** Keys may hold letters, digits and `-_=.`; the names we use do already. */
function encode(key: string): string {
  return key.replaceAll(/[^A-Za-z0-9\-_=.]/g, '_');
}
