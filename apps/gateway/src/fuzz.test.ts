import { fuzzedRequest } from '@torpor/testkit';
import { expect, it } from 'vitest';
import { ALSO, fuzz, placesOf, rehearseForFuzz } from './fuzz.ts';

const SEED = Number(process.env['SEED'] ?? 1);

it(`sees no 500 in 5000 requests (seed ${SEED})`, async () => {
  const stage = await rehearseForFuzz();
  await stage.plant('box');
  const { statuses, wrong } = await fuzz(stage, 5_000, (index) => fuzzedRequest(SEED, index, placesOf(stage), ALSO));
  expect(wrong.slice(0, 3).join('\n\n')).toBe('');
  const refused = [...statuses].filter(([status]) => status >= 400 && status < 500);
  expect(refused.reduce((sum, [, count]) => sum + count, 0)).toBeGreaterThan(1_000);
  await stage.plant('still-there');
  expect((await stage.call('/main/sandboxes/still-there/x')).status).toBe(200);
  await stage.close();
}, 120_000);
