/** The accounts of this machine that services run as, by their numbers. */
import { readFile } from 'node:fs/promises';
import { accounts, type AccountOf } from '../setup/steps/accounts.ts';

export interface Account {
  readonly uid: number;
  /** Its own group, which nobody else is in. */
  readonly gid: number;
}

export type Accounts = Readonly<Record<AccountOf, Account>>;

export async function accountsOfMachine(): Promise<Accounts> {
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n');
  const idsOf = (of: AccountOf): Account => {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${accounts[of]}:`))?.split(':') ?? [];
    if (uid === undefined || gid === undefined)
      throw new Error(`this machine has no account "${accounts[of]}"; the set-up makes it`);
    return { uid: Number(uid), gid: Number(gid) };
  };
  return {
    gateway: idsOf('gateway'),
    scheduler: idsOf('scheduler'),
    node: idsOf('node'),
    nats: idsOf('nats'),
    postgres: idsOf('postgres'),
  };
}
