import { WorkspaceName } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { ACTIONS, may, mayGrant, readScope, type Action, type Role, type Scope, type Subject } from './may.ts';

const ours = WorkspaceName.parse('ours');
const theirs = WorkspaceName.parse('theirs');

function subject(role: Role, scopes?: Scope[]): Subject {
  return { workspace: ours, role, scopes };
}

describe('may', () => {
  const table: [Subject, Action, 'allowed' | 'refused'][] = [
    [subject('admin'), 'sandboxes:write', 'allowed'],
    [subject('admin'), 'keys:write', 'allowed'],
    [subject('admin'), 'nodes:read', 'allowed'],
    [subject('member'), 'sandboxes:write', 'allowed'],
    [subject('member'), 'sandboxes:use', 'allowed'],
    [subject('member'), 'previews:write', 'allowed'],
    [subject('member'), 'events:read', 'allowed'],
    [subject('member'), 'keys:read', 'refused'],
    [subject('member'), 'keys:write', 'refused'],
    [subject('member'), 'nodes:read', 'refused'],
    [subject('member'), 'workspaces:write', 'refused'],
    [subject('admin', ['*']), 'keys:write', 'allowed'],
    [subject('admin', ['sandboxes:*']), 'sandboxes:use', 'allowed'],
    [subject('admin', ['sandboxes:*']), 'keys:write', 'refused'],
    [subject('admin', ['sandboxes:read']), 'sandboxes:read', 'allowed'],
    [subject('admin', ['sandboxes:read']), 'sandboxes:use', 'refused'],
    [subject('admin', []), 'sandboxes:read', 'refused'],
    [{ ...subject('admin'), scopes: ['no:such'] }, 'sandboxes:read', 'refused'],
    // A scope narrows a role and never widens it.
    [subject('member', ['*']), 'keys:write', 'refused'],
    [subject('member', ['keys:write']), 'keys:write', 'refused'],
  ];

  it.each(table)('%j asking for %s is %s', (who, action, kind) => {
    expect(may(who, action, { workspace: ours }).kind).toBe(kind);
  });

  it.each(ACTIONS)('refuses %s across workspaces, to admins too', (action) => {
    expect(may(subject('admin'), action, { workspace: theirs }).kind).toBe('refused');
  });

  it('lets a personal key into every workspace, within its role', () => {
    const personal: Subject = { role: 'member' };
    expect(may(personal, 'sandboxes:use', { workspace: theirs }).kind).toBe('allowed');
    expect(may(personal, 'keys:write', { workspace: theirs }).kind).toBe('refused');
  });

  it('says why it refuses', () => {
    expect(may(subject('admin', ['sandboxes:read']), 'keys:read', { workspace: ours })).toEqual({
      kind: 'refused',
      reason: '"keys:read" is not among this key\'s scopes (sandboxes:read)',
    });
  });
});

describe('mayGrant', () => {
  const narrow = subject('admin', ['keys:*', 'sandboxes:read']);
  it.each([
    [subject('admin'), { role: 'admin' }, 'allowed'],
    [subject('admin'), { role: 'member', scopes: ['*'] }, 'allowed'],
    [subject('member'), { role: 'admin' }, 'refused'],
    [narrow, { role: 'member', scopes: ['sandboxes:read'] }, 'allowed'],
    [narrow, { role: 'member', scopes: ['sandboxes:*'] }, 'refused'],
    [narrow, { role: 'member' }, 'refused'],
    [narrow, { role: 'member', scopes: [] }, 'allowed'],
    [narrow, { role: 'member', scopes: ['*'] }, 'refused'],
  ] as const)('%j granting %j is %s', (who, key, kind) => expect(mayGrant(who, key).kind).toBe(kind));
});

describe('readScope', () => {
  it.each(['*', 'sandboxes:*', 'keys:read'])('reads %s', (text) => expect(readScope(text)).toBe(text));
  it.each(['', 'sandbox:read', 'nothing:*', 'sandboxes:', ':*x'])('refuses "%s"', (text) =>
    expect(readScope(text)).toBeUndefined(),
  );
});
