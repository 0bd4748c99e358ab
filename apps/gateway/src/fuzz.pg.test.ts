import { systemChance } from '@torpor/kernel';
import { aesSealing, pgStore } from '@torpor/store';
import { fuzzedRequest, startPostgres } from '@torpor/testkit';
import { expect, it } from 'vitest';
import { ALSO, fuzz, placesOf, rehearseForFuzz } from './fuzz.ts';

const SEED = Number(process.env['SEED'] ?? 2);

it(`sees no 500 in 1500 requests on PostgreSQL, which takes fewer signs than memory does (seed ${SEED})`, async () => {
  const postgres = await startPostgres();
  const sealing = aesSealing({ key: Buffer.alloc(32, 7).toString('base64'), chance: systemChance });
  const store = await pgStore({ url: postgres.url, sealing });
  const stage = await rehearseForFuzz(store);
  await stage.plant('box');
  const { wrong } = await fuzz(stage, 1_500, (index) => fuzzedRequest(SEED, index, placesOf(stage), ALSO));
  await stage.close();
  await store.close();
  await postgres.close();
  expect(wrong.slice(0, 3).join('\n\n')).toBe('');
}, 120_000);
