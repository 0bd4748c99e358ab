import type { Make } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { missingAt } from './make.ts';

const here: Make = { isolation: 'runsc-1', templates: { base: 'base-1' }, cpuFeatures: ['avx', 'sse'] };

it.each<[string, Partial<Make>, readonly RegExp[]]>([
  ['an equal node', {}, []],
  ['a better processor', { cpuFeatures: ['avx', 'avx2', 'sse'] }, []],
  ['more templates', { templates: { base: 'base-1', node: 'node-1' } }, []],
  ['another isolation', { isolation: 'runsc-2' }, [/"runsc-1".*"runsc-2"/]],
  ['no such template', { templates: {} }, [/the template "base"/]],
  ['another make of the template', { templates: { base: 'base-2' } }, [/base-1.*base-2/]],
  ['a lesser processor', { cpuFeatures: ['sse'] }, [/features avx/]],
  ['nothing that fits', { isolation: 'x', templates: {}, cpuFeatures: [] }, [/"x"/, /template/, /avx, sse/]],
])('%s is missing what it lacks', (_, there, lacks) => {
  const missing = missingAt({ ...here, ...there }, here, 'base');
  expect(missing).toHaveLength(lacks.length);
  lacks.forEach((lack, at) => expect(missing[at]).toMatch(lack));
});
