import { expect, it } from 'vitest';
import { predictMs } from './predict.ts';

it.each([
  ['nothing from nothing', [], undefined],
  ['the one that there is', [4], 4],
  ['a slow one, as long as it is among the last', [4, 4, 90, 4, 4], 90],
  ['no slow one of long ago', [90, ...Array.from({ length: 19 }, () => 4)], 4],
  ['slowness that came to stay', [...Array.from({ length: 18 }, () => 4), 90, 90], 90],
])('expects %s', (_, measuredMs, expected) => expect(predictMs(measuredMs)).toBe(expected));
