/** What every store keeps true. `memoryStore` and `pgStore` both pass it, so that tests and the simulator may use the quick one. */
import { describe } from 'vitest';
import { describeAudit } from './conformance/audit.ts';
import { describeChanges } from './conformance/changes.ts';
import { describeFleet } from './conformance/fleet.ts';
import { describeIdempotency } from './conformance/idempotency.ts';
import { describeKeys } from './conformance/keys.ts';
import { describeLists } from './conformance/lists.ts';
import { describeMoves } from './conformance/moves.ts';
import { describePreviews } from './conformance/previews.ts';
import { describeSandboxes } from './conformance/sandboxes.ts';
import { describeSecrets } from './conformance/secrets.ts';
import { describeSnapshots } from './conformance/snapshots.ts';
import { describeUsage } from './conformance/usage.ts';
import { describeVolumes } from './conformance/volumes.ts';
import { openStage } from './conformance/stage.ts';
import type { Store } from './store.ts';

export function describeStore(what: string, open: () => Promise<Store>): void {
  describe(`${what}`, () => {
    const stage = openStage(open);
    describeSandboxes(stage);
    describeLists(stage);
    describeChanges(stage);
    describeKeys(stage);
    describePreviews(stage);
    describeSecrets(stage);
    describeIdempotency(stage);
    describeAudit(stage);
    describeSnapshots(stage);
    describeUsage(stage);
    describeVolumes(stage);
    describeFleet(stage);
    describeMoves(stage);
  });
}
