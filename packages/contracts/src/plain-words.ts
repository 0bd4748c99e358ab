/**
 * What is wrong with a value from outside, for whoever sent it: which field, and what was expected there. Where a schema has no words of its own, the
 * library would speak in terms of its types; importing this file gives it ours instead, for every schema of the process.
 */
import { z } from 'zod';

const ISSUES_MAX = 5;
const NOTHING = new Set([undefined, null]);

z.config({ localeError: expectation });

type Raw = Parameters<NonNullable<NonNullable<Parameters<typeof z.config>[0]>['localeError']>>[0];

/** One line: each field that is wrong, by its path, with what was expected there. `whole`: what the value itself is called. */
export function describeIssues(error: z.ZodError, whole = 'the body'): string {
  // Of several complaints about one field the last is the narrowest: an empty name is first too short, then no name.
  const byField = new Map(error.issues.map(({ path, message }) => [fieldOf(path) || whole, message]));
  const lines = [...byField].slice(0, ISSUES_MAX).map(([field, message]) => `${field}: ${message}`);
  const more = byField.size - lines.length;
  return more === 0 ? lines.join('; ') : `${lines.join('; ')}; and ${more} more`;
}

/** `spec.runtime.ports[0].target`. */
function fieldOf(path: readonly PropertyKey[]): string {
  return path
    .map((step, at) => (typeof step === 'number' ? `[${step}]` : `${at === 0 ? '' : '.'}${String(step).slice(0, 100)}`))
    .join('');
}

function expectation(issue: Raw): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${nounOf(issue.expected)}${NOTHING.has(issue.input as undefined) ? '; it is missing' : ''}`; // any other value is simply not in the set
    case 'too_big':
      return `expected ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}${unitOf(issue.origin)}`;
    case 'too_small':
      if (issue.origin === 'string' && issue.minimum === 1) return 'expected text that is not empty';
      return `expected ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}${unitOf(issue.origin)}`;
    case 'invalid_value':
      return `expected ${oneOf(issue.values)}`;
    case 'invalid_union':
      return 'options' in issue && Array.isArray(issue['options'])
        ? `expected ${oneOf(issue['options'])}`
        : oneMessageOf(issue.errors.flat());
    case 'invalid_key':
      return `is no name for a field here; ${oneMessageOf(issue.issues)}`;
    case 'unrecognized_keys':
      return `has fields that are not known here: ${issue.keys.join(', ').slice(0, 200)}`;
    case 'invalid_format':
      return issue.format === 'regex' ? `expected text of the form ${issue['pattern']}` : `expected ${issue.format}`;
    default:
      return 'is not what was expected here';
  }
}

const NOUNS: Readonly<Record<string, string>> = {
  string: 'text',
  int: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

function nounOf(type: string): string {
  return NOUNS[type] ?? type;
}

function unitOf(origin: string): string {
  if (origin === 'string') return ' signs';
  return origin === 'array' ? ' entries' : '';
}

function oneOf(values: readonly unknown[]): string {
  return values.map((value) => JSON.stringify(value)).join(' or ');
}

function oneMessageOf(issues: readonly { readonly message: string }[]): string {
  return [...new Set(issues.map(({ message }) => message))].slice(0, 3).join(', or ') || 'expected something else';
}
