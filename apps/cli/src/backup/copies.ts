/**
 * A copy of one sandbox, as its node makes one for another node: put to sleep, stored, and its parcels carried to files, sealed for who has the passphrase.
 * Requests wait meanwhile. Then it lives on, and runs again if it ran.
 */
import type { OpenWire } from '@torpor/bus';
import {
  DATA_KEY_HEADER,
  describeInstance,
  isAsleep,
  leaveInstance,
  NodeId,
  resumeInstance,
  stayInstance,
  type Generation,
  type InstanceId,
} from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { openLetter, Parcel, publicText } from '@torpor/runtime';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { z } from 'zod';
import type { BackupLock } from './lock.ts';
import type { File } from './list.ts';

/** As whom a backup is the other node of a journey. */
export const BACKUP = NodeId.parse('backup');

/** What a backup must know of a waybill, to carry what it names. */
const Carried = z.object({ parcel: Parcel });
const CarriedBill = z.object({
  images: z.array(Carried),
  snapshots: z.array(Carried),
  asides: z.array(Carried).optional(),
});

export interface Around {
  readonly wire: OpenWire;
  readonly lock: BackupLock;
  readonly dir: string;
  readonly dataKey: string;
  readonly told: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface Original {
  readonly instanceId: InstanceId;
  readonly generation: Generation;
  readonly nodeId: NodeId;
  /** Of its node. */
  readonly url: string;
  readonly key: string;
}

export async function copyOf(around: Around, from: Original): Promise<File[]> {
  const { wire, lock, told, signal } = around;
  const { instanceId, generation, nodeId } = from;
  const [which, node] = [{ instanceId, generation }, { node: nodeId }];
  const { instance } = await wire.ask(describeInstance, { instanceId }, node);
  await wire.ask(leaveInstance, { ...which, to: BACKUP, key: publicText(lock.pair), copy: true }, { ...node, signal });
  try {
    return await carried(around, from);
  } finally {
    const stays = wire.ask(stayInstance, which, node);
    await stays.catch((error: unknown) => told(`${instanceId} wakes again in two minutes only: ${explain(error)}`));
    if (instance && !isAsleep(instance.state)) {
      const wakes = wire.ask(resumeInstance, which, node);
      await wakes.catch((error: unknown) => told(`${instanceId} ran and was not woken again: ${explain(error)}`));
    }
  }
}

async function carried({ dir, lock, dataKey, signal }: Around, from: Original): Promise<File[]> {
  const { instanceId, generation } = from;
  const fetched = async (rest: string) => {
    const path = `${from.url}/m/${instanceId}/${generation}/${rest}`;
    const answer = await fetch(path, { headers: { [DATA_KEY_HEADER]: dataKey }, signal });
    if (!answer.ok || !answer.body)
      throw new Error(`${rest} answered ${answer.status}: ${(await answer.text()).slice(0, 200)}`);
    return await stored(dir, `sandboxes/${instanceId}/${rest}`, answer.body as ReadableStream); // the same under two names
  };
  const bill = await fetched('waybill');
  const about = `${instanceId}/${generation} ${from.nodeId} ${BACKUP}`;
  const opened = openLetter(await readFile(join(dir, bill.path)), { mine: lock.pair, theirs: from.key, about });
  const { images, snapshots, asides = [] } = CarriedBill.parse(JSON.parse(opened.toString()));
  const parcels = new Map([...images, ...snapshots, ...asides].map(({ parcel }) => [parcel.image, parcel]));
  const files = [bill];
  for (const { image, files: inside } of parcels.values()) {
    for (const { name, bytes } of inside) {
      const file = await fetched(`${image}/${name}`);
      if (file.bytes !== bytes) throw new Error(`${name} of image ${image} came with ${file.bytes} bytes of ${bytes}`);
      files.push(file);
    }
  }
  return files;
}

async function stored(dir: string, path: string, body: ReadableStream): Promise<File> {
  await mkdir(dirname(join(dir, path)), { recursive: true, mode: 0o700 });
  const hash = createHash('sha256');
  let bytes = 0;
  const stream = Readable.fromWeb(body);
  stream.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  await pipeline(stream, createWriteStream(join(dir, path), { mode: 0o600, flush: true }));
  return { path, bytes, sha256: hash.digest('hex') };
}
