import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import { brokenWith, isConnectionBroken, plainly, PlainFailure, StreamCut } from './plain-words.ts';

const withCode = (code: string, message: string) => Object.assign(new Error(message), { code });

describe('a person is told', () => {
  const refused = withCode('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:28540');
  it.each([
    [refused, 'the stack is not up, or is restarting; "torpor status" tells which'],
    [
      new TypeError('fetch failed', { cause: refused }),
      'the stack is not up, or is restarting; "torpor status" tells which',
    ],
    [
      withCode('UND_ERR_SOCKET', 'other side closed'),
      'the connection to the stack broke; "torpor status" tells how it is',
    ],
    [
      new Failure('unavailable', 'no room serves scheduler.sandbox.create.v1 at present; it may be starting'),
      'a part of the stack is not up, or is restarting; "torpor status" tells which',
    ],
    [
      new Failure('bad_gateway', 'the timer "reach node" ended: the node local could not be reached within 3000 ms'),
      'the node that holds the sandbox does not answer; "torpor status" tells how it is',
    ],
  ])('what "%s" means for them', (error, words) => {
    const told = plainly(error);
    expect(told).toMatchObject({ message: words, behind: error });
    expect(plainly(told)).toBe(told);
  });

  it('everything else as it is', () => {
    const error = new Failure('not_found', 'there is no sandbox "x"');
    expect(plainly(error)).toBe(error);
    expect(plainly('text')).toBe('text');
  });

  it('what became of the sandbox, as far as anybody knows', () => {
    const died = brokenWith('web', { state: 'failed', reason: 'out of memory' }, undefined);
    expect(died.message).toBe(
      'the connection to the sandbox "web" broke; it is failed: out of memory\n"torpor sandbox get web" says what became of it',
    );
    expect(brokenWith('web', undefined, undefined).message).toContain('torpor status');
    expect(died).toBeInstanceOf(PlainFailure);
  });
});

it('a connection is broken only if there was one', () => {
  expect(isConnectionBroken(new StreamCut('ended'))).toBe(true);
  expect(
    isConnectionBroken(new TypeError('terminated', { cause: withCode('UND_ERR_SOCKET', 'other side closed') })),
  ).toBe(true);
  expect(isConnectionBroken(withCode('ECONNREFUSED', 'connect'))).toBe(false);
  expect(isConnectionBroken(new Failure('not_found', 'no'))).toBe(false);
});
