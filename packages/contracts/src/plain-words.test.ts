import { expect, it } from 'vitest';
import { z } from 'zod';
import { describeIssues } from './plain-words.ts';
import { IdlePolicy } from './sandbox.ts';
import { SandboxName } from './ids.ts';

const Ask = z.object({
  name: SandboxName.optional(),
  size: z.int().min(1).max(64).optional(),
  tags: z.array(z.string()).max(1).default([]),
  ports: z.array(z.object({ target: z.int() })).default([]),
  kind: z.enum(['a', 'b']).optional(),
  idle: IdlePolicy.optional(),
  env: z.record(z.string().min(1), z.string()).default({}),
  either: z.union([z.string(), z.int()]).optional(),
});

it.each([
  [undefined, 'the body: expected an object; it is missing'],
  [[], 'the body: expected an object'],
  [{ size: 'big' }, 'size: expected a number'],
  [{ size: 1.5 }, 'size: expected a whole number'],
  [{ size: 1e300 }, 'size: expected at most 64'],
  [{ size: 0 }, 'size: expected at least 1'],
  [{ name: '' }, 'name: expected lower-case letters, digits and inner hyphens, at most 49 signs'],
  [{ name: 'x'.repeat(60) }, 'name: expected at most 49 signs'],
  [{ tags: ['a', 'b'] }, 'tags: expected at most 1 entries'],
  [{ ports: [{ target: 1 }, {}] }, 'ports[1].target: expected a number; it is missing'],
  [{ kind: 'c' }, 'kind: expected "a" or "b"'],
  [{ idle: { kind: 'later' } }, 'idle.kind: expected "after" or "never"'],
  [{ env: { '': 'x' } }, 'env.: is no name for a field here; expected text that is not empty'],
  [{ env: { A: 1 } }, 'env.A: expected text'],
  [{ either: true }, 'either: expected text, or expected a number'],
  [{ name: 7, size: true }, 'name: expected text; size: expected a number'],
])('says of %j in plain words what was expected: %s', (value, words) => {
  const parsed = Ask.safeParse(value);
  expect(parsed.error && describeIssues(parsed.error)).toBe(words);
});

it('keeps the line short when everything is wrong', () => {
  const parsed = z.array(z.string()).safeParse([1, 2, 3, 4, 5, 6, 7]);
  expect(parsed.error && describeIssues(parsed.error)).toMatch(/^\[0\]: .*\[4\]: expected text; and 2 more$/);
});
