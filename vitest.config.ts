import { defineConfig } from 'vitest/config';

/**
 * System tests that bring up installations of their own (`own-installation.ts`), so that two files may run at once; but for those that mind, or fill, the
 * swap of the host, and those that take a host down: what others do with mounts and devices meanwhile would not end with it.
 */
const OWN = [
  'backup',
  'death',
  'image-faults',
  'installations',
  'move',
  'restart',
  'snapshot-deaths',
  'stored',
  'upgrade',
  'volumes',
].map((name) => `test/system/${name}.test.ts`);
const SYSTEM = { exclude: ['**/node_modules/**'], testTimeout: 180_000, hookTimeout: 300_000 };

/**
 * `unit`: no root, no servers but those a suffix names (`.nats.test`, `.pg.test`, started by the test itself). `system`: the whole stack, one for all.
 * `own`: the whole stack, each file its own.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['packages/**/*.test.ts', 'apps/**/*.test.ts', 'test/simulation/**/*.test.ts'],
          exclude: ['**/node_modules/**'],
          testTimeout: 30_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          ...SYSTEM,
          exclude: [...SYSTEM.exclude, ...OWN],
          globalSetup: ['test/system/global-setup.ts'],
          fileParallelism: false,
        },
      },
      { test: { name: 'own', include: OWN, ...SYSTEM, maxWorkers: 2 } },
    ],
  },
});
