import { api } from '../bench/lib/api.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { until } from './until.ts';

/** Deletes a sandbox, however often that must be asked while processes of the stack come back. One that is not there is fine. */
export function removed(stack: Stack, name: string, withinMs = 60_000): Promise<number> {
  let said = '';
  const isRemoved = async () => {
    said = await api(stack)
      .delete(name)
      .then(() => '', String);
    return said === '' || / 404: /.test(said);
  };
  return until(`${name} of ${stack.workspace} is deleted`, withinMs, isRemoved, () => said);
}
