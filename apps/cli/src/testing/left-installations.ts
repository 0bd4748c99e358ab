/**
 * What tests leave on the machine when they are ended in their midst: whole installations, beside any of the user's, whose supervisors are in no process
 * group of ours. So tests write down the name of each before they bring it up (`test/bench/lib/stack.ts`), in the file that this variable names.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { thisInstallation } from '../up/installation.ts';

export const BROUGHT_UP_FILE = 'TORPOR_TEST_BROUGHT_UP';

/** The names of those that are still there. */
export async function leftInstallations(broughtUpFile: string, env = process.env): Promise<string[]> {
  const text = await readFile(broughtUpFile, 'utf8').catch(() => ''); // no test brought one up
  const names = new Set(text.split('\n').filter((line) => line !== ''));
  return [...names].filter((name) => existsSync(thisInstallation({ ...env, TORPOR_INSTALLATION: name }).stateDir));
}
