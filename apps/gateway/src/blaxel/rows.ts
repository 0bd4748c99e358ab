import type { Row } from './ask.ts';
import { otherRows } from './others.ts';
import { previewRows, type PreviewRowsParts } from './previews.ts';
import { sandboxRows, type SandboxRowsParts } from './sandboxes.ts';
import { snapshotRows } from './snapshots.ts';

/** Everything of Blaxel's control plane that we have. */
export function controlRows(parts: SandboxRowsParts & PreviewRowsParts): Row[] {
  return [...sandboxRows(parts), ...previewRows(parts), ...snapshotRows(parts), ...otherRows(parts)];
}
