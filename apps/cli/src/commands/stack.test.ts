import { expect, it } from 'vitest';
import { workspaceWords } from './stack.ts';

it('says which workspace is used where another may be expected', () => {
  const wasUp = false;
  expect(workspaceWords({ asked: undefined, before: undefined, now: 'main', wasUp })).toBe('');
  expect(workspaceWords({ asked: 'main', before: 'main', now: 'main', wasUp })).toBe('');
  expect(workspaceWords({ asked: undefined, before: 'second', now: 'second', wasUp })).toBe('');
  expect(workspaceWords({ asked: 'second', before: 'main', now: 'second', wasUp })).toMatch(
    /use the workspace "second" from now on\. "main" keeps .*"torpor up --workspace main" leads back/,
  );
  expect(workspaceWords({ asked: 'main', before: 'second', now: 'second', wasUp })).toMatch(
    /go on using the workspace "second": .*TORPOR_API_KEY lead there/,
  );
  expect(workspaceWords({ asked: 'main', before: 'second', now: 'second', wasUp: true })).toMatch(
    /go on using the workspace "second": the stack was up already\. .*"torpor up --workspace main"/,
  );
});
