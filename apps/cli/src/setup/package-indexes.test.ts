import { describe, expect, it } from 'vitest';
import { clientSettings, goUrls, hostPorts, withoutCredentials } from './package-indexes.ts';

const bare = { env: {}, npmrc: [], pipConf: [] };

describe('clientSettings', () => {
  it.each([
    { name: 'a host with nothing set gives nothing', host: bare, npm: {}, pip: {} },
    {
      name: 'indexes go in, tokens and local paths stay out',
      host: {
        ...bare,
        npmrc: [
          'registry = "https://mirror.example/npm/"\n//mirror.example/npm/:_authToken=s3cret\n@acme:registry=https://acme.example/\ncafile=/etc/x.pem\n; comment = no',
        ],
        pipConf: [
          '[global]\nindex-url = https://mirror.example/simple\ncert = /etc/x.pem\nfind-links = /opt/wheels\n[list]\nindex-url = https://other.example',
        ],
      },
      npm: { registry: 'https://mirror.example/npm/', '@acme:registry': 'https://acme.example/' },
      pip: { 'index-url': 'https://mirror.example/simple' },
    },
    {
      name: 'a name and a password in a URL are cut out',
      host: {
        ...bare,
        npmrc: ['registry=https://me:s3cret@mirror.example/npm/'],
        env: { PIP_INDEX_URL: 'https://me:s3cret@mirror.example/simple' },
      },
      npm: { registry: 'https://mirror.example/npm/' },
      pip: { 'index-url': 'https://mirror.example/simple' },
    },
    {
      name: 'the later file wins over the earlier, the environment over both',
      host: {
        env: { npm_config_registry: 'https://c.example/' },
        npmrc: ['registry=https://a.example/', 'registry=https://b.example/'],
        pipConf: [],
      },
      npm: { registry: 'https://c.example/' },
      pip: {},
    },
    {
      name: 'an index on this host itself is of no use inside',
      host: {
        ...bare,
        npmrc: ['registry=http://localhost:4873/'],
        env: { PIP_EXTRA_INDEX_URL: 'http://127.0.0.1:3141/simple https://mirror.example/simple' },
      },
      npm: {},
      pip: { 'extra-index-url': 'https://mirror.example/simple' },
    },
    {
      name: "pip's values may go on in indented lines",
      host: {
        ...bare,
        pipConf: ['[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n'],
      },
      npm: {},
      pip: { 'extra-index-url': 'https://a.example/simple https://b.example/simple' },
    },
  ])('$name', ({ host, npm, pip }) => {
    expect(clientSettings(host)).toEqual({ npm, pip });
  });
});

describe('hostPorts', () => {
  it.each([
    {
      name: 'the port follows the scheme',
      urls: ['https://a.example/x', 'http://b.example'],
      found: ['a.example:443', 'b.example:80'],
    },
    { name: 'a stated port is kept', urls: ['https://a.example:8443/x'], found: ['a.example:8443'] },
    {
      name: 'no repeats, no credentials, no loopback, nothing that is no URL',
      urls: ['https://u:p@a.example', 'https://a.example/', 'http://[::1]:80/', 'direct', '', 'file:///opt/wheels'],
      found: ['a.example:443'],
    },
  ])('$name', ({ urls, found }) => {
    expect(hostPorts(urls)).toEqual(found);
  });
});

describe('goUrls', () => {
  it.each([
    { proxy: 'https://p.example,direct', sum: 'sum.example', urls: ['https://p.example', 'https://sum.example'] },
    { proxy: 'https://p.example|https://q.example', sum: 'off', urls: ['https://p.example', 'https://q.example'] },
    { proxy: 'off', sum: 'sum.example+key https://mirror.example/sum', urls: ['https://mirror.example/sum'] },
    { proxy: '', sum: '', urls: [] },
  ])('GOPROXY=$proxy GOSUMDB=$sum', ({ proxy, sum, urls }) => {
    expect(goUrls(proxy, sum)).toEqual(urls);
  });
});

describe('withoutCredentials', () => {
  it('leaves a URL without any as it was written', () => {
    expect(withoutCredentials('https://a.example/npm')).toBe('https://a.example/npm');
  });
});
