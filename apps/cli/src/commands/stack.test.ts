import { expect, it } from 'vitest';
import { statusWords, workspaceWords } from './stack.ts';

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

it('says what runs without a supervisor, and what to do about it', () => {
  expect(statusWords(undefined, [])).toBe('Torpor is not up. "torpor up" starts it.\n');
  expect(statusWords(undefined, [{ service: 'gateway', pid: 12 }])).toMatch(
    /^The rooms run without a supervisor; "torpor up" takes over, "torpor down" ends them\.\n {2}gateway +pid 12\n$/,
  );
  expect(statusWords({ url: 'http://here', pid: 3, ready: false, services: [] }, [])).toBe(
    'http://here  supervisor 3  starting\n',
  );
});
