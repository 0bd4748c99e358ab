import { randomWord, type Chance } from '@torpor/kernel';
import { z } from 'zod';
import { locate } from './addresses.ts';

const KEEP_ALIVE_S_DEFAULT = 600;
const TIMEOUT_S_MAX = 30 * 86_400;
const RESTART_DELAY_MS = 1_000;

export const ProcessRequest = z.object({
  command: z
    .string({ error: (issue) => (issue.input === undefined ? 'is required' : 'expected text') })
    .min(1, 'is required'),
  name: z.string().max(256).nullish(),
  workingDir: z.string().max(4096).nullish(),
  env: z
    .record(
      z
        .string()
        .min(1)
        .regex(/^[^=\0]+$/, 'expected a name without "=" and NUL'),
      z.string().regex(/^[^\0]*$/, 'expected no NUL byte'),
    )
    .nullish(),
  waitForCompletion: z.boolean().nullish(),
  /** Seconds; 0 is none. */
  timeout: z.number().min(0).max(TIMEOUT_S_MAX).nullish(),
  waitForPorts: z.array(z.int().min(1).max(65535)).max(100).nullish(),
  keepAlive: z.boolean().nullish(),
  restartOnFailure: z.boolean().nullish(),
  maxRestarts: z.int().min(-1_000_000).max(1_000_000).nullish(),
  stdin: z.boolean().nullish(),
});
export type ProcessRequest = z.infer<typeof ProcessRequest>;

/** What the guest is asked to start. */
export function guestAskOf(
  request: ProcessRequest,
  context: { workdir: string; chance: Chance },
): Record<string, unknown> {
  return {
    name: request.name || `proc-${randomWord(context.chance, 8)}`,
    shell: request.command,
    cwd: locate(request.workingDir ?? '', context.workdir),
    env: request.env ?? {},
    stdin: request.stdin ?? false,
    keepAlive: request.keepAlive ?? false,
    // Only the life of a keep-alive process is limited; of any other the time-out limits the wait.
    ...(request.keepAlive ? { timeoutMs: Math.round((request.timeout ?? KEEP_ALIVE_S_DEFAULT) * 1000) } : {}),
    ...(request.restartOnFailure ? { restart: restartOf(request) } : {}),
  };
}

/** A missing or zero limit means: restart without end, as a negative one says in so many words. */
function restartOf(request: ProcessRequest): { maxRestarts: number; delayMs: number } {
  const limit = request.maxRestarts ?? 0;
  return { maxRestarts: limit > 0 ? limit : -1, delayMs: RESTART_DELAY_MS };
}

/** How long the caller wants to wait; undefined: as long as it takes. */
export function waitMsOf(request: ProcessRequest): number | undefined {
  if (request.keepAlive || !request.timeout) return undefined;
  return Math.round(request.timeout * 1000);
}

/** What the answer says beside the process itself. */
export function echoOf(request: ProcessRequest): Record<string, unknown> {
  if (!request.restartOnFailure) return {};
  return { restartOnFailure: true, maxRestarts: request.maxRestarts ?? 0 };
}
