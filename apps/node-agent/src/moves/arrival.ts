/**
 * An instance's way in: its waybill is opened, its parcels are carried here and made into images, each read back and compared, and only when all of it is
 * here durably it is one of this node's, stored, under its next generation. Cut short at any moment, it was never here: the journal has it removed.
 */
import type { Generation, InstanceId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import {
  EMPTY_SHELF,
  shelfAfter,
  type ArrivedWords,
  type Claim,
  type Hint,
  type Shelf,
  type Spec,
} from '../journal/index.ts';
import { destroySurely } from '../life/destroy.ts';
import type { Body, Parts } from '../parts.ts';
import { carryParcel, type ParcelSource } from './carry.ts';
import { openWaybill, type Waybill } from './waybill.ts';

export interface ArrivalAsk {
  readonly instanceId: InstanceId;
  /** Its next. */
  readonly generation: Generation;
  readonly source: ParcelSource;
  /** The public key of the node that it leaves. */
  readonly key: string;
  /** See `Between`. */
  readonly about: string;
}

export interface Arrived {
  readonly claim: Claim;
  readonly body: Body;
  readonly spec: Spec;
  readonly shelf: Shelf;
  readonly hint: Hint | undefined;
  readonly bytes: number;
}

export async function arriveOnHost(parts: Parts, ask: ArrivalAsk, signal: AbortSignal): Promise<Arrived> {
  const { nodeKey, slots } = parts;
  const between = { mine: nodeKey.travelling(), theirs: ask.key, about: ask.about };
  const waybill = openWaybill(await ask.source.waybill(signal), between);
  const { hostId } = waybill;
  if (waybill.instanceId !== ask.instanceId) throw new Error('the waybill is of another instance');
  parts.recipeOf(waybill.template); // throws where there is no such template
  if (slots.holds(hostId)) {
    throw new Failure('unavailable', 'what an earlier try, or an earlier stay of it here, has left is being removed', {
      retryable: true,
      retryAfterS: 2,
    });
  }
  const body = { hostId, slot: slots.take(hostId) };
  const images = [...new Set(travellersOf(waybill).map(({ parcel }) => parcel.image))];
  try {
    return await arrive(parts, { ask, waybill, body, images }, signal);
  } catch (error) {
    if (!parts.closing.aborted) await destroySurely(parts, body, 'its arrival was cut short', { images });
    throw error;
  }
}

async function arrive(
  parts: Parts,
  { ask, waybill, body, images }: { ask: ArrivalAsk; waybill: Waybill; body: Body; images: readonly string[] },
  signal: AbortSignal,
): Promise<Arrived> {
  const { journal, driver, clock } = parts;
  const { template, shape, bootToken } = waybill;
  const { hostId, slot } = body;
  const spec: Spec = { slot, template, shape, bootToken };
  const travelling = new Map(travellersOf(waybill).map((one) => [one.parcel.image, one]));
  const all = [...travelling.values()].map(({ parcel, key, diskAlone }) => ({
    parcel,
    steps: driver.unpackSteps({ instanceId: hostId, key: Buffer.from(key, 'base64'), parcel, diskAlone }),
  }));
  const steps = all[0]?.steps ?? [];
  const intent = await journal.intendArrive(hostId, spec, images, steps);
  let bytes = 0;
  for (const { parcel, steps: unpack } of all) {
    const size = parcel.files.reduce((sum, file) => sum + file.bytes, 0);
    await driver.parcels.open(parcel.image, Math.ceil(size / 2 ** 20) + parcel.diskUsedMib);
    await carryParcel({ source: ask.source, files: driver.parcels, clock, signal }, parcel);
    await journal.carryOut(intent, unpack);
    bytes += size;
  }
  const words = wordsOf(parts, ask, waybill);
  await parts.receipts.bring(hostId, waybill.receipts ?? []);
  const line = await journal.arrived(hostId, words);
  if (waybill.hint) await journal.hint(hostId, waybill.hint).catch(() => {}); // worth having, never worth failing for
  return { claim: words.claim, body, spec, shelf: shelfAfter(EMPTY_SHELF, line), hint: waybill.hint, bytes };
}

function travellersOf({ images, snapshots, asides = [] }: Waybill) {
  const whole = [...images, ...snapshots].map(({ parcel, key }) => ({ parcel, key, diskAlone: false }));
  return [...whole, ...asides.map(({ parcel, key }) => ({ parcel, key, diskAlone: true }))];
}

/** Keys and environment are this node's to seal from here on. */
function wordsOf({ nodeKey }: Parts, { generation }: ArrivalAsk, waybill: Waybill): ArrivedWords {
  const { instanceId, workspace, name, token, workdir, env } = waybill;
  const { idle, wakeBudget, snapshotLimits } = waybill;
  const policy = { idle, ...(wakeBudget ? { wakeBudget } : {}), ...(snapshotLimits ? { snapshotLimits } : {}) };
  const sealedEnv = nodeKey.seal(workspace, 'env', Buffer.from(env));
  const kept = ({
    parcel: { image },
    key,
    atMs,
    bytes,
    memoryBytes,
    census,
    generation: known,
  }: Waybill['images'][0]) => ({
    image,
    sealedKey: nodeKey.seal(workspace, image, Buffer.from(key, 'base64')),
    atMs,
    bytes,
    memoryBytes,
    generation: known,
    ...(census ? { census } : {}),
  });
  return {
    claim: { instanceId, generation, workspace, name, token, workdir, ...policy, sealedEnv },
    images: waybill.images.map(kept),
    snapshots: waybill.snapshots.map((one) => ({ ...kept(one), note: one.note })),
    ...(waybill.asides ? { asides: waybill.asides.map(asideOf) } : {}),
    count: waybill.count,
    ...(waybill.history ? { history: waybill.history } : {}),
  };
}

function asideOf({ parcel: { image }, atMs, name }: NonNullable<Waybill['asides']>[0]) {
  return { image, atMs, ...(name ? { name } : {}) };
}
