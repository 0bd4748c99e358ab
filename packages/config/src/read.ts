import { readFileSync } from 'node:fs';
import { describeIssues } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';

/** Reads the two files a room is started with. Throws `bad_request` naming the file and each field that is wrong, and never a secret's value. */
export function readRoomConfig<Config, Secrets>(
  shapes: { config: z.ZodType<Config>; secrets: z.ZodType<Secrets> },
  env: NodeJS.ProcessEnv = process.env,
): { config: Config; secrets: Secrets } {
  return {
    config: readShape(shapes.config, env, 'TORPOR_CONFIG'),
    secrets: readShape(shapes.secrets, env, 'TORPOR_SECRETS'),
  };
}

function readShape<T>(shape: z.ZodType<T>, env: NodeJS.ProcessEnv, variable: string): T {
  const path = env[variable];
  if (!path) throw new Failure('bad_request', `${variable} must name a JSON file; "torpor up" sets it`);
  const parsed = shape.safeParse(JSON.parse(readFileSync(path, 'utf8')));
  if (parsed.success) return parsed.data;
  throw new Failure(
    'bad_request',
    `${path} is not what this room expects: ${describeIssues(parsed.error, 'the file')}`,
  );
}
