import { expect, it } from 'vitest';
import { workspaceWords } from './stack.ts';

it('says which workspace is used where another may be expected', () => {
  expect(workspaceWords({ asked: undefined, before: undefined, now: 'main' })).toBe('');
  expect(workspaceWords({ asked: 'main', before: 'main', now: 'main' })).toBe('');
  expect(workspaceWords({ asked: undefined, before: 'second', now: 'second' })).toBe('');
  expect(workspaceWords({ asked: 'second', before: 'main', now: 'second' })).toMatch(
    /use the workspace "second" from now on\. "main" keeps/,
  );
  expect(workspaceWords({ asked: 'main', before: 'second', now: 'second' })).toMatch(
    /go on using the workspace "second".*lead to "main"/,
  );
});
