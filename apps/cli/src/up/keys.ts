/** The secrets an installation makes for itself at its first start. They live in one file that only root reads; each room is given its own part. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Installation } from './installation.ts';
import { writeWhole } from './write-whole.ts';

const Keys = z.object({
  postgresPassword: z.string(),
  dataKey: z.string(),
  sealingKey: z.string(),
  nats: z.object({ gateway: z.string(), scheduler: z.string(), node: z.string() }),
});
export type Keys = z.infer<typeof Keys>;

export async function keysOf(installation: Installation): Promise<Keys> {
  const file = join(installation.stateDir, 'keys.json');
  const known = await readFile(file, 'utf8').catch(() => undefined); // absent at the first start
  if (known !== undefined) return Keys.parse(JSON.parse(known));
  const word = () => randomBytes(24).toString('base64url');
  const keys: Keys = {
    postgresPassword: word(),
    dataKey: word(),
    sealingKey: randomBytes(32).toString('base64'),
    nats: { gateway: word(), scheduler: word(), node: word() },
  };
  await writeWhole(file, `${JSON.stringify(keys, null, 2)}\n`, 0o600);
  return keys;
}
