/** What changed in files from one point to another. */
import type { compareFiles } from '@torpor/contracts';
import type { InstanceDriver } from '@torpor/runtime';
import type { z } from 'zod';
import { atPoint, type PointsParts } from './points.ts';

/** Beyond any tree that a person would read the differences of, and within what a node can do beside its work. */
export const COMPARE_LIMITS = { entries: 1_000_000, bytes: 8 * 2 ** 30, ms: 90_000, listed: 1_500 } as const;

export interface CompareParts extends PointsParts {
  readonly driver: InstanceDriver;
}

export async function compareOnHost(
  parts: CompareParts,
  { from, to, under }: z.infer<typeof compareFiles.request>,
): Promise<z.infer<typeof compareFiles.reply>> {
  return await atPoint(parts, from, (was) =>
    atPoint(parts, to, async (is) => {
      const images = [was.image, is.image] as const;
      const { changes, counts, unlisted, tookMs } = await parts.driver.compareFiles({
        images,
        under,
        limits: COMPARE_LIMITS,
      });
      return { from: was, to: is, changes, counts, unlisted, tookMs };
    }),
  );
}
