/** One stack for all system tests: an installation of its own, brought up before the first and purged after the last, whatever happened between. */
import { torpor } from '../bench/lib/stack.ts';
import { testEnv } from './test-stack.ts';

export default async function setup(): Promise<() => Promise<void>> {
  // What an earlier run left when it was killed.
  await torpor(['down', '--purge'], testEnv);
  await torpor(['up', '--detach', '--pool', '4', '--disk', '8'], testEnv);
  return async () => {
    if (process.env.TORPOR_TEST_KEEP) return;
    await torpor(['down', '--purge'], testEnv);
  };
}
