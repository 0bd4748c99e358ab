import { expect, it } from 'vitest';
import { readApiKey, writeApiKey } from './api-key.ts';

const key = { prefix: 'abcd2345', secret: 'a'.repeat(32) };

it('reads what it wrote', () => expect(readApiKey(writeApiKey(key))).toEqual(key));

it.each([
  '',
  'tp_',
  'tp_short_secret',
  `tp_abcd2345_${'a'.repeat(129)}`,
  `bl_abcd2345_${key.secret}`,
  ` ${writeApiKey(key)}`,
])('takes "%s" for no key of ours', (text) => expect(readApiKey(text)).toBeUndefined());
