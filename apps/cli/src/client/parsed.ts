import { describeIssues } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';

/** What a sandbox or the stack has answered, in the shape that we go on with. */
export function parsed<T>(shape: z.ZodType<T>, value: unknown, what: string): T {
  const { data, error } = shape.safeParse(value);
  if (error)
    throw new Failure('bad_gateway', `${what} is not what was expected: ${describeIssues(error, 'the answer')}`);
  return data;
}
