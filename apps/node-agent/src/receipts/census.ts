/** Asks a guest what there is of it. */
import type { Census } from '@torpor/policy';
import type { Guest } from '@torpor/runtime';
import { z } from 'zod';

/** So many of each are compared: a census lies in the journal. */
const COUNTED_MAX = 256;

const Counted = z.object({ id: z.string(), pid: z.number(), name: z.string() });
const Port = z.object({ port: z.number(), address: z.string(), processId: z.string().optional() });
/** As the guest says it, and as the journal keeps it. */
export const CensusShape: z.ZodType<Census> = z.object({
  atMs: z.number(),
  generation: z.number(),
  published: z.number().nullable(),
  processes: z.array(Counted),
  ports: z.array(Port),
});

/** Rejects when the guest does not say in time, or is too old to know the call. */
export async function takeCensus(guest: Guest, ms: number, signal?: AbortSignal): Promise<Census> {
  const options = { headMs: ms, ...(signal ? { signal } : {}) };
  const { processes, ports, ...rest } = CensusShape.parse(await guest.json('GET', '/v1/census', undefined, options));
  return { ...rest, processes: processes.slice(0, COUNTED_MAX), ports: ports.slice(0, COUNTED_MAX) };
}
