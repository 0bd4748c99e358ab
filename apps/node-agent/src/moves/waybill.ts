/** What goes with the parcels of one sandbox: who it is, what it was made of, what befell it, and the keys of its images. Sealed for the node that it is for. */
import {
  IdlePolicy,
  InstanceEvent,
  InstanceId,
  SandboxName,
  Shape,
  SignedReceipt,
  SnapshotLimits,
  WakeBudget,
  WorkspaceName,
} from '@torpor/contracts';
import { openLetter, Parcel, sealLetter, type Between } from '@torpor/runtime';
import { z } from 'zod';
import { Hint } from '../journal/index.ts';
import { SnapshotNote } from '../journal/lines.ts';
import { CensusShape } from '../receipts/census.ts';

const Travelling = z.object({
  parcel: Parcel,
  /** Base64. */
  key: z.string(),
  atMs: z.number(),
  bytes: z.number(),
  memoryBytes: z.number(),
  census: CensusShape.optional(),
  /** That its guest believes in. */
  generation: z.number(),
});

export const Waybill = z.object({
  version: z.literal(1),
  instanceId: InstanceId,
  hostId: InstanceId,
  workspace: WorkspaceName,
  name: SandboxName,
  token: z.string(),
  bootToken: z.string(),
  workdir: z.string(),
  env: z.string(),
  idle: IdlePolicy,
  wakeBudget: WakeBudget.optional(),
  snapshotLimits: SnapshotLimits.optional(),
  template: z.string(),
  shape: Shape,
  images: z.array(Travelling).min(1),
  snapshots: z.array(Travelling.extend({ note: SnapshotNote })),
  /** What fall-backs have put aside: files without memory. */
  asides: z
    .array(z.object({ parcel: Parcel, key: z.string(), atMs: z.number(), name: z.string().optional() }))
    .optional(),
  /** How many images were ever begun: no name is used twice. */
  count: z.number().int(),
  hint: Hint.optional(),
  /** What befell it so far, and the receipts of its wakes, as the nodes have signed them on which it woke. */
  history: z.array(InstanceEvent).optional(),
  receipts: z.array(SignedReceipt).optional(),
});
export type Waybill = z.infer<typeof Waybill>;

export function sealWaybill(waybill: Waybill, between: Between): Buffer {
  return sealLetter(Buffer.from(JSON.stringify(waybill)), between);
}

/** Throws when it was sealed for another node, by another, or for another journey. */
export function openWaybill(bytes: Buffer, between: Between): Waybill {
  return Waybill.parse(JSON.parse(openLetter(bytes, between).toString()));
}
