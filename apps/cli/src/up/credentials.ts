/** How this machine's root speaks to its own stack: written by `up`, read by the CLI. Others set TORPOR_URL and TORPOR_API_KEY. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Installation } from './installation.ts';
import { writeWhole } from './write-whole.ts';

export const Credentials = z.object({
  /** How the stack is reached from this machine. */
  url: z.string(),
  /** What the outside calls it, where `up` was told. */
  publicUrl: z.string().optional(),
  workspace: z.string(),
  apiKey: z.string(),
  /** Of the workspaces that were used before. */
  keptKeys: z.array(z.object({ workspace: z.string(), apiKey: z.string() })).optional(),
});
export type Credentials = z.infer<typeof Credentials>;

/** With `workspace` in use, by its new key or the one that is kept. As they were where there is neither. */
export function turnedTo(workspace: string, known: Credentials, newKey?: string): Credentials {
  const kept = known.keptKeys ?? [];
  const apiKey = newKey ?? kept.find((each) => each.workspace === workspace)?.apiKey;
  if (apiKey === undefined) return known;
  const before = { workspace: known.workspace, apiKey: known.apiKey };
  return {
    ...known,
    workspace,
    apiKey,
    keptKeys: [...kept, before].filter((each) => each.workspace !== workspace),
  };
}

const fileOf = (installation: Installation) => join(installation.stateDir, 'credentials.json');

export async function readCredentials(installation: Installation): Promise<Credentials | undefined> {
  const text = await readFile(fileOf(installation), 'utf8').catch(() => undefined); // absent before the first start
  return text === undefined ? undefined : Credentials.parse(JSON.parse(text));
}

export async function writeCredentials(installation: Installation, credentials: Credentials): Promise<void> {
  await writeWhole(fileOf(installation), `${JSON.stringify(credentials, null, 2)}\n`, 0o600);
}
