/**
 * Who may do what. A *subject* is whoever holds a verified key; an *action* is `<things>:<verb>`; a *resource* is known by its workspace alone,
 * since nothing is shared across workspaces. A key may do what its role allows and, if it has scopes, only what these name besides.
 */
import type { WorkspaceName } from '@torpor/contracts';

export type Role = 'admin' | 'member';

export const ACTIONS = [
  'sandboxes:read',
  'sandboxes:write',
  /** Reach into a sandbox: run, read and write files, open ports. */
  'sandboxes:use',
  'volumes:read',
  'volumes:write',
  'previews:read',
  'previews:write',
  'keys:read',
  'keys:write',
  'nodes:read',
  /** Empty a node, and say where a sandbox is to live. */
  'nodes:write',
  'workspaces:read',
  'workspaces:write',
  'events:read',
  'stats:read',
] as const;
export type Action = (typeof ACTIONS)[number];

/** `*`, `<things>:*` or an action. */
export type Scope = '*' | `${string}:*` | Action;

export interface Subject {
  /** Absent: a person's own key, which reaches every workspace. */
  readonly workspace?: WorkspaceName | undefined;
  readonly role: Role;
  /** Absent: everything that the role allows. Empty: nothing. */
  readonly scopes?: readonly string[] | undefined;
}

export type Verdict = { readonly kind: 'allowed' } | { readonly kind: 'refused'; readonly reason: string };

const ADMINS_ONLY: ReadonlySet<Action> = new Set<Action>([
  'keys:read',
  'keys:write',
  'nodes:read',
  'nodes:write',
  'workspaces:write',
]);

export function may(subject: Subject, action: Action, resource: { readonly workspace: WorkspaceName }): Verdict {
  if (subject.workspace !== undefined && subject.workspace !== resource.workspace) {
    return refused(`this key belongs to another workspace than "${resource.workspace}"`);
  }
  if (subject.role !== 'admin' && ADMINS_ONLY.has(action)) {
    return refused(`"${action}" takes the role admin; this key has the role ${subject.role}`);
  }
  if (!covered(subject.scopes, action)) {
    return refused(`"${action}" is not among this key's scopes (${subject.scopes?.join(', ') || 'none'})`);
  }
  return { kind: 'allowed' };
}

/** Nobody gives away more than they have: whether this subject may make a key of that role and those scopes. */
export function mayGrant(subject: Subject, key: Pick<Subject, 'role' | 'scopes'>): Verdict {
  if (key.role === 'admin' && subject.role !== 'admin') return refused('only an admin makes a key of the role admin');
  const wider = ACTIONS.find((action) => covered(key.scopes, action) && !covered(subject.scopes, action));
  if (wider !== undefined)
    return refused(`the new key would reach "${wider}", which is not among this key's own scopes`);
  return { kind: 'allowed' };
}

/** Reads a scope as a person writes it; `undefined` when nothing that we know would be covered by it. */
export function readScope(text: string): Scope | undefined {
  return ACTIONS.some((action) => covers(text, action)) ? (text as Scope) : undefined; // it covers an action, so it is a scope
}

function covered(scopes: readonly string[] | undefined, action: Action): boolean {
  return scopes === undefined || scopes.some((scope) => covers(scope, action));
}

function covers(scope: string, action: Action): boolean {
  return scope === '*' || scope === action || (scope.endsWith(':*') && action.startsWith(scope.slice(0, -1)));
}

function refused(reason: string): Verdict {
  return { kind: 'refused', reason };
}
