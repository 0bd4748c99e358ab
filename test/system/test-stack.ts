import { checkout, findStack, type Stack } from '../bench/lib/stack.ts';

/**
 * The environment in which `./torpor` means the tests' own installation, beside any that the checkout's user runs.
 * Two runs at once each need a name: TORPOR_TEST_INSTALLATION.
 */
export const testEnv: NodeJS.ProcessEnv = {
  ...process.env,
  TORPOR_INSTALLATION: process.env.TORPOR_TEST_INSTALLATION ?? `tests of ${checkout}`,
};

export const isSoak = process.env.TORPOR_TEST_TIER === 'soak';
export const isFull = process.env.TORPOR_TEST_TIER === 'full' || isSoak;

export function testStack(): Promise<Stack> {
  return findStack(testEnv);
}

let serial = 0;
export function freshName(label: string): string {
  return `${label}-${process.pid.toString(36)}-${serial++}`;
}
