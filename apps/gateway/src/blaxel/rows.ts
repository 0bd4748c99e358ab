import { archiveRows, type ArchiveRowsParts } from './archive.ts';
import type { Row } from './ask.ts';
import { otherRows } from './others.ts';
import { previewRows, type PreviewRowsParts } from './previews.ts';
import { sandboxRows } from './sandboxes.ts';
import { snapshotRows } from './snapshots.ts';

/** Everything of Blaxel's control plane that we have. */
export function controlRows(parts: ArchiveRowsParts & PreviewRowsParts): Row[] {
  return [
    ...sandboxRows(parts),
    ...archiveRows(parts),
    ...previewRows(parts),
    ...snapshotRows(parts),
    ...otherRows(parts),
  ];
}
