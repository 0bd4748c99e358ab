/** The listener of a node that is only a directory: it hands out the parcels of a backup, to who has the data key, and waybills sealed anew for whoever fetches. */
import { DATA_KEY_HEADER } from '@torpor/contracts';
import { openLetter, publicText, sealLetter, type Between } from '@torpor/runtime';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { BACKUP } from './copies.ts';
import type { List } from './list.ts';
import type { BackupLock } from './lock.ts';

export interface Office {
  readonly url: string;
  /** What its waybills are sealed by. */
  readonly key: string;
  /** Whom a sandbox's waybill is to be sealed for. */
  readonly destinations: Map<string, { to: string; key: string }>;
  close(): void;
}

const PATH = /^\/m\/([a-z0-9]+)\/(\d+)\/(.+)$/;

export async function openOffice(
  dir: string,
  { lock, list, dataKey }: { lock: BackupLock; list: List; dataKey: string },
): Promise<Office> {
  const destinations: Office['destinations'] = new Map();
  const files = new Map(list.sandboxes.flatMap((one) => one.files.map((file) => [file.path, file] as const)));
  const server = createServer((request, response) => {
    hand(request, response).catch(() => response.destroy()); // it is asked again
  });

  async function hand(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, id = '', generation = '', rest = ''] = PATH.exec(request.url ?? '') ?? [];
    const file = files.get(`sandboxes/${id}/${rest}`);
    if (request.headers[DATA_KEY_HEADER] !== dataKey || !file) {
      response.writeHead(404).end();
      return;
    }
    if (rest === 'waybill') {
      response.end(sealedAnew(id, Number(generation), await readFile(join(dir, file.path))));
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? 'bytes=0-')?.[1] ?? 0);
    response.writeHead(206, { 'content-length': Math.max(0, file.bytes - from) });
    await pipeline(createReadStream(join(dir, file.path), { start: from }), response);
  }

  function sealedAnew(id: string, generation: number, bytes: Buffer): Buffer {
    const next = destinations.get(id);
    if (!next) throw new Error(`nobody has asked for ${id}`);
    const goes: Between = { mine: lock.pair, theirs: next.key, about: `${id}/${generation} ${BACKUP} ${next.to}` };
    return sealLetter(openedWaybill({ lock, list }, id, bytes), goes);
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, // a TCP server that listens has one
    key: publicText(lock.pair),
    destinations,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Throws when it is not what its node sealed for the backup. */
export function openedWaybill({ lock, list }: { lock: BackupLock; list: List }, id: string, bytes: Buffer): Buffer {
  const sandbox = list.sandboxes.find(({ instanceId }) => instanceId === id);
  const source = list.nodes.find((node) => node.id === sandbox?.nodeId);
  if (!sandbox || !source) throw new Error(`the backup's list does not say where ${id} came from`);
  const about = `${id}/${sandbox.generation} ${source.id} ${BACKUP}`;
  return openLetter(bytes, { mine: lock.pair, theirs: source.key, about });
}
