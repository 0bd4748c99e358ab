import { Failure } from '@torpor/kernel';
import { Readable, Writable } from 'node:stream';
import type { ParcelFiles } from '../parcels.ts';
import type { FakeImage } from './image.ts';

/**
 * Images that were packed, by what stands in their parcels. All fake hosts of a process know all of them: an image in memory is no bytes, and what travels
 * is a ticket for it.
 */
const packed = new Map<string, FakeImage>();

export class FakeParcels implements ParcelFiles {
  readonly #files = new Map<string, Buffer>();

  /** Answers the bytes of its one file. */
  pack(image: string, what: FakeImage): number {
    const ticket = `${image} ${packed.size} ${'.'.repeat(64)}`;
    packed.set(ticket, what);
    const bytes = Buffer.from(ticket);
    this.#files.set(`${image}/ticket`, bytes);
    return bytes.length;
  }

  unpack(image: string): FakeImage {
    const what = packed.get(this.#bytes(image, 'ticket').toString());
    if (!what) {
      throw new Failure('unprocessable', `the parcel of image ${image} is not what was packed`, {
        details: { image: 'damaged' },
      });
    }
    return what;
  }

  delete(image: string): void {
    this.#files.delete(`${image}/ticket`);
  }

  get images(): string[] {
    return [...this.#files.keys()].map((path) => path.split('/')[0] ?? '');
  }

  async open(): Promise<void> {}

  async size(image: string, file: string): Promise<number> {
    return this.#bytes(image, file).length;
  }

  async read(image: string, file: string, from: number): Promise<Readable> {
    return Readable.from([this.#bytes(image, file).subarray(from)]);
  }

  async append(image: string, file: string): Promise<Writable> {
    return new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.#files.set(`${image}/${file}`, Buffer.concat([this.#bytes(image, file), chunk]));
        done();
      },
    });
  }

  #bytes(image: string, file: string): Buffer {
    return this.#files.get(`${image}/${file}`) ?? Buffer.alloc(0);
  }
}
