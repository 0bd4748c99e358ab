import { expect, it } from 'vitest';
import { unserved } from './unserved.ts';

it('says of a node that is not there what its caller can do, without our subjects', () => {
  expect(unserved('node.local.instance.start.v1')).toMatchObject({
    code: 'unavailable',
    retryable: true,
    message: 'the node local cannot be asked just now; try again in a few seconds',
  });
  expect(unserved('scheduler.sandbox.create.v1').message).toMatch(/^no room serves scheduler\.sandbox\.create\.v1 /);
});
