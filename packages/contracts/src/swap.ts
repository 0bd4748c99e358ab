/** What a host swaps to, and what an operator says about it. */
import { z } from 'zod';

/**
 * `auto`: what the host has, if nobody who has its disk can read it; where the host has none, a file under a key that nobody has, or else zram. `crypt`,
 * `zram`, `file`: that, where the host has none; `file` is a plain one. `host`: what it has, and never mind who can read it. `none`: nothing is paged out.
 * Only `file` and `host` let the secrets of sandboxes reach a disk in the clear.
 */
export const SwapKind = z.enum(['auto', 'crypt', 'zram', 'file', 'host', 'none']);
export type SwapKind = z.infer<typeof SwapKind>;

/** One place that a host swaps to. Sizes are MiB. */
export const SwapArea = z.object({
  /** `crypt`: a file under a key that nobody has; `zram`: compressed, in RAM; `file`: a plain file; `host`: not made by us. */
  kind: z.enum(['crypt', 'zram', 'file', 'host']),
  device: z.string(),
  sizeMib: z.number(),
  usedMib: z.number(),
  /** How readable what lies there is to whoever has the disk; `memory` never reaches one. */
  atRest: z.enum(['encrypted', 'memory', 'plain', 'unknown']),
});
export type SwapArea = z.infer<typeof SwapArea>;

/** What a node does with its host's swap. `reason`: why it pages no sandbox out. */
export const NodeSwap = z.object({ areas: z.array(SwapArea), pagesOut: z.boolean(), reason: z.string().optional() });
export type NodeSwap = z.infer<typeof NodeSwap>;
