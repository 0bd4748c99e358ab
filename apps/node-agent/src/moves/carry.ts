/** Files of parcels from another node's listener: in ranges, so that one that broke off goes on where it ended. */
import { DATA_KEY_HEADER, type Generation, type InstanceId } from '@torpor/contracts';
import { explain, Failure, type Clock } from '@torpor/kernel';
import type { Parcel, ParcelFiles } from '@torpor/runtime';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';

/** Where a sandbox comes from. */
export interface ParcelSource {
  waybill(signal: AbortSignal): Promise<Buffer>;
  /** From an offset on. */
  file(image: string, file: string, from: number, signal: AbortSignal): Promise<Readable>;
}

export interface Origin {
  readonly url: string;
  readonly instanceId: InstanceId;
  readonly generation: Generation;
}

export function overHttp({ url, instanceId, generation }: Origin, dataKey: string): ParcelSource {
  const ask = async (rest: string, signal: AbortSignal, headers: Record<string, string> = {}) => {
    const path = `${url}/m/${instanceId}/${generation}/${rest}`;
    const answer = await fetch(path, { headers: { [DATA_KEY_HEADER]: dataKey, ...headers }, signal });
    if (answer.ok && answer.body) return answer;
    const said = await answer.text();
    throw new Failure('unavailable', `the node that it leaves answered ${answer.status}: ${said.slice(0, 300)}`, {
      retryable: true,
    });
  };
  return {
    waybill: async (signal) => Buffer.from(await (await ask('waybill', signal)).arrayBuffer()),
    async file(image, file, from, signal) {
      const { body } = await ask(`${image}/${file}`, signal, { range: `bytes=${from}-` });
      return Readable.fromWeb(body as ReadableStream); // the same thing under the DOM's and Node's names
    },
  };
}

const STALL_MS = 30_000;
/** In a row, without a byte. */
const FRUITLESS_MAX = 8;

/** Resolves when every file of the parcel is here in full. */
export async function carryParcel(
  { source, files, clock, signal }: { source: ParcelSource; files: ParcelFiles; clock: Clock; signal: AbortSignal },
  parcel: Parcel,
): Promise<void> {
  for (const { name, bytes } of parcel.files) {
    for (let fruitless = 0; ; fruitless++) {
      const have = await files.size(parcel.image, name);
      if (have === bytes) break;
      if (have > bytes) throw new Error(`${name} of image ${parcel.image} has ${have} bytes here, and ${bytes} there`);
      try {
        await carryOn(have);
      } catch (error) {
        signal.throwIfAborted();
        if ((await files.size(parcel.image, name)) > have) fruitless = 0;
        if (fruitless >= FRUITLESS_MAX) {
          const what = `${name} of image ${parcel.image} broke off at byte ${have} of ${bytes}: ${explain(error)}`;
          throw new Failure('unavailable', what, { retryable: true, cause: error });
        }
        await clock.after(Math.min(100 * 2 ** fruitless, 5_000), signal);
      }
    }

    async function carryOn(from: number): Promise<void> {
      const stall = new AbortController();
      let timer = setTimer();
      const watched = AbortSignal.any([signal, stall.signal]);
      try {
        const stream = await source.file(parcel.image, name, from, watched);
        const into = await files.append(parcel.image, name);
        stream.on('data', () => {
          clearTimeout(timer);
          timer = setTimer();
        });
        await pipeline(stream, into, { signal: watched });
      } finally {
        clearTimeout(timer);
      }

      function setTimer(): NodeJS.Timeout {
        const why = new Error(`the timer "carry a parcel" ended: no byte came for ${STALL_MS} ms`);
        return setTimeout(() => stall.abort(why), STALL_MS).unref();
      }
    }
  }
}
