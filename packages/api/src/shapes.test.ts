import { ENV_BYTES_MAX } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { CreateSandboxInput } from './shapes.ts';

it('an environment that is too heavy for the bus is refused at the door', () => {
  const part = 'x'.repeat(ENV_BYTES_MAX / 4 - 1); // and a name of one letter
  expect(CreateSandboxInput.safeParse({ env: { A: part, B: part, C: part, D: part } }).success).toBe(true);
  const heavier = CreateSandboxInput.safeParse({ env: { A: part, B: part, C: part, D: `${part}é` } });
  expect(heavier.error?.issues).toMatchObject([{ path: ['env'], message: 'expected at most 262144 bytes in all' }]);
});
