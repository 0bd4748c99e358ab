/**
 * The first steps of an installation: brings the database to this version's shape, makes the workspace and, while it has no key, a first one.
 * Run as a program it prints `{workspace, apiKey?}`: `node apps/gateway/src/bootstrap.ts --workspace main --key-name first`, with the gateway's two
 * files named by TORPOR_CONFIG and TORPOR_SECRETS. Running it again changes nothing, except with `--new-key`, which makes one more key.
 */
import { parseArgs } from 'node:util';
import { WorkspaceName } from '@torpor/contracts';
import { Failure, systemChance, systemClock, type Chance, type Clock } from '@torpor/kernel';
import { mintKey, type Store } from '@torpor/store';
import { openStore, readGatewayConfig } from './open-room.ts';

/** `apiKey` is the whole key, shown this once. */
export async function bootstrap(
  parts: { store: Store; clock: Clock; chance: Chance },
  wanted: { workspace: WorkspaceName; keyName: string; newKey: boolean },
): Promise<{ workspace: WorkspaceName; apiKey?: string }> {
  const { store, clock, chance } = parts;
  const createdAtMs = clock.nowMs();
  const createdBy = 'bootstrap';
  const { workspace } = wanted;
  await store.workspaces.create({ name: workspace, displayName: workspace, createdAtMs, createdBy });
  const { keys } = store.workspace(workspace);
  const living = (await keys.list()).filter((key) => key.revokedAtMs === undefined);
  if (living.length > 0 && !wanted.newKey) return { workspace };
  const { text, ...minted } = mintKey(chance);
  const name = wanted.keyName;
  await keys.create({ ...minted, name, subject: `key:${name}`, role: 'admin', createdAtMs, createdBy });
  await store.audit.append({
    atMs: createdAtMs,
    workspace,
    actor: createdBy,
    action: 'key.create',
    target: name,
    outcome: 'ok',
  });
  return { workspace, apiKey: text };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      workspace: { type: 'string', default: 'default' },
      'key-name': { type: 'string', default: 'first' },
      'new-key': { type: 'boolean', default: false },
    },
  });
  const workspace = WorkspaceName.safeParse(values.workspace);
  if (!workspace.success)
    throw new Failure('bad_request', '--workspace takes lower-case letters, digits and inner hyphens');
  const { config, secrets } = readGatewayConfig();
  const store = await openStore(config, secrets, onTrouble);
  try {
    const wanted = { workspace: workspace.data, keyName: values['key-name'], newKey: values['new-key'] };
    const answer = await bootstrap({ store, clock: systemClock, chance: systemChance }, wanted);
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  } finally {
    await store.close();
  }
}

function onTrouble(doing: string, error: unknown): void {
  console.error(doing, error);
}

if (import.meta.main) await main();
