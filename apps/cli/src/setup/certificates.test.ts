import { describe, expect, it } from 'vitest';
import { extraCertificates } from './certificates.ts';

function pem(body: string, newline = '\n'): string {
  return ['-----BEGIN CERTIFICATE-----', body, '-----END CERTIFICATE-----', ''].join(newline);
}

describe('extraCertificates', () => {
  it.each([
    { name: 'what the base has is no extra', host: pem('AAAA'), base: pem('AAAA'), extra: [] },
    {
      name: 'comments, line ends and wrapping do not make a certificate another one',
      host: `# My CA\n${pem('AA\r\nAA', '\r\n')}`,
      base: pem('AAAA'),
      extra: [],
    },
    {
      name: 'an extra one comes out once, however often it went in',
      host: pem('AAAA') + pem('BBBB') + pem('BBBB'),
      base: pem('AAAA'),
      extra: [pem('BBBB')],
    },
    { name: 'a host without a bundle adds nothing', host: '', base: pem('AAAA'), extra: [] },
  ])('$name', ({ host, base, extra }) => {
    expect(extraCertificates(host, base)).toEqual(extra);
  });
});
