/** Where parcels of this node are handed out: at its data-plane listener, to who has its key. What they hold opens to one node alone. */
import { Generation, InstanceId, type NodeId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Parts } from '../parts.ts';
import type { Standby } from '../standby/standby.ts';
import { sealWaybill } from './waybill.ts';

const PATH = /^\/m\/([a-z0-9]{8,24})\/([1-9]\d{0,14})\/(?:(waybill)|([a-z0-9][a-z0-9-]{7,62})\/([a-z][a-z_.]{0,62}))$/;

export class ParcelOffice {
  readonly #parts: Parts;
  readonly #standby: Pick<Standby, 'at'>;
  readonly #nodeId: NodeId;

  constructor(parts: Parts, standby: Pick<Standby, 'at'>, nodeId: NodeId) {
    this.#parts = parts;
    this.#standby = standby;
    this.#nodeId = nodeId;
  }

  async waybill(instanceId: InstanceId, generation: Generation): Promise<Buffer> {
    const { departure } = this.#standby.at(instanceId, generation);
    const { waybill, to } = await departure.waybill();
    departure.touched();
    const about = journey(instanceId, generation, { from: this.#nodeId, to: to.nodeId });
    return sealWaybill(waybill, { mine: this.#parts.nodeKey.travelling(), theirs: to.key, about });
  }

  async file(which: { instanceId: InstanceId; generation: Generation }, image: string, file: string, from: number) {
    const { departure } = this.#standby.at(which.instanceId, which.generation);
    const { parcels } = this.#parts.driver;
    if (!departure.carries(image, file)) throw new Failure('not_found', `no such file travels: ${image}/${file}`);
    departure.touched();
    const bytes = await parcels.size(image, file);
    if (from > bytes) throw new Failure('bad_request', `the range begins at ${from}, and there are ${bytes} bytes`);
    return { bytes, stream: (): Promise<Readable> => parcels.read(image, file, from) };
  }

  /** False when the path is no affair of this office. The caller has seen the key. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const [, id, generationText, waybill, image, file] = PATH.exec(request.url ?? '') ?? [];
    if (id === undefined || request.method !== 'GET') return false;
    const which = { instanceId: InstanceId.parse(id), generation: Generation.parse(Number(generationText)) };
    if (waybill !== undefined) {
      response.end(await this.waybill(which.instanceId, which.generation));
      return true;
    }
    if (image === undefined || file === undefined) return false;
    const from = Number(/^bytes=(\d{1,15})-$/.exec(request.headers.range ?? 'bytes=0-')?.[1] ?? NaN);
    if (Number.isNaN(from)) throw new Failure('bad_request', 'expected a range such as "bytes=1024-"');
    const found = await this.file(which, image, file, from);
    const head = { 'content-length': found.bytes - from, 'content-type': 'application/octet-stream' };
    response.writeHead(206, { ...head, 'content-range': `bytes ${from}-${found.bytes - 1}/${found.bytes}` });
    if (found.bytes === from) response.end();
    else await pipeline(await found.stream(), response);
    return true;
  }
}

/** Which journey a waybill is for. `generation` is the one that it leaves under. */
export function journey(instanceId: InstanceId, generation: Generation, way: { from: NodeId; to: NodeId }): string {
  return `${instanceId}/${generation} ${way.from} ${way.to}`;
}
