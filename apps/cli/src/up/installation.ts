/**
 * An installation: one stack on one machine. Every name, port and address range that it uses on the host derives from its id, so that two of them
 * run side by side. A checkout is an installation of its own unless TORPOR_INSTALLATION names another.
 */
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';

export interface Installation {
  /** Six hex digits. */
  readonly id: string;
  readonly name: string;
  /** The checkout whose code runs. */
  readonly checkout: string;
  /** Survives a reboot: database, journals, pool of disks, keys, log. */
  readonly stateDir: string;
  /** Gone after a reboot: sockets, process ids. */
  readonly runDir: string;
}

export function thisInstallation(env: NodeJS.ProcessEnv = process.env): Installation {
  const checkout = resolve(import.meta.dirname, '../../../..');
  const name = env.TORPOR_INSTALLATION ?? checkout;
  const id = sixHex(name);
  return {
    id,
    name,
    checkout,
    stateDir: join(env.TORPOR_STATE ?? '/var/lib/torpor', id),
    runDir: join('/run/torpor', `up-${id}`),
  };
}

/** The scope under which hostd names what a node has on the host. */
export function scopeOf(installation: string, nodeId: string): string {
  return sixHex(`${installation}/${nodeId}`);
}

function sixHex(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 6);
}
