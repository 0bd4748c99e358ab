import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { debianSources, template } from './template.ts';

const repoDir = join(import.meta.dirname, '../../../../..');

describe('debianSources', () => {
  it.each([
    {
      name: "Debian's suites of the release, each once; nobody else's",
      targets:
        'Packages|http://m.example/debian/|bookworm|main\nTranslations|http://m.example/debian/|bookworm|main\nPackages|http://m.example/debian/|bookworm|main\nPackages|http://m.example/security/|bookworm-security|main\nPackages|http://x.example/node|nodistro|main\n',
      sources: 'deb http://m.example/debian/ bookworm main\ndeb http://m.example/security/ bookworm-security main\n',
    },
    {
      name: 'backports are not mixed in',
      targets:
        'Packages|http://m.example/debian/|bookworm|main\nPackages|http://m.example/debian/|bookworm-backports|main\n',
      sources: 'deb http://m.example/debian/ bookworm main\n',
    },
    {
      name: "another release's host gives none: mmdebstrap knows where to look",
      targets: 'Packages|http://m.example/debian/|trixie|main\n',
      sources: '',
    },
    {
      name: 'updates without the suite itself are no source',
      targets: 'Packages|http://m.example/debian/|bookworm-updates|main\n',
      sources: '',
    },
  ])('$name', ({ targets, sources }) => {
    expect(debianSources(targets, 'bookworm')).toBe(sources);
  });
});

describe('the built-in template', () => {
  it('serves every alias that a Blaxel program may ask for', async () => {
    const { template: base } = await template('/nonexistent', repoDir, 'base');
    expect(base.aliases).toEqual(
      expect.arrayContaining(['blaxel/base-image', 'blaxel/node', 'blaxel/py-app', 'blaxel/ts-app']),
    );
    expect(base).toMatchObject({ workdir: '/blaxel', digest: expect.stringMatching(/^[0-9a-f]{16}$/) });
  });

  it('lists its packages in order, so that two lists of the same packages are one template', async () => {
    const { packages } = JSON.parse(await readFile(join(repoDir, 'infra/templates/base/template.json'), 'utf8'));
    expect(packages).toEqual([...packages].sort());
  });
});
