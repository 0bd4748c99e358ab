/** The secrets an installation makes for itself at its first start. They live in one file that only root reads; each room is given its own part. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Installation } from './installation.ts';
import { writeWhole } from './write-whole.ts';

const Keys = z.object({
  /** Of the embedded PostgreSQL's roles. Its superuser has no password. */
  database: z.object({ owner: z.string(), gateway: z.string(), scheduler: z.string() }),
  dataKey: z.string(),
  sealingKey: z.string(),
  nats: z.object({ gateway: z.string(), scheduler: z.string(), node: z.string() }),
});
export type Keys = z.infer<typeof Keys>;

export async function keysOf(installation: Installation): Promise<Keys> {
  const file = join(installation.stateDir, 'keys.json');
  const known = await readFile(file, 'utf8').catch(() => undefined); // absent at the first start
  // An earlier version's file lacks some.
  const keys = Keys.parse({ ...freshKeys(), ...(known === undefined ? {} : (JSON.parse(known) as object)) }); // it is checked here
  const text = `${JSON.stringify(keys, null, 2)}\n`;
  if (text !== known) await writeWhole(file, text, 0o600);
  return keys;
}

function freshKeys(): Keys {
  const word = () => randomBytes(24).toString('base64url');
  return {
    database: { owner: word(), gateway: word(), scheduler: word() },
    dataKey: word(),
    sealingKey: randomBytes(32).toString('base64'),
    nats: { gateway: word(), scheduler: word(), node: word() },
  };
}
