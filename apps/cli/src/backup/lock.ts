/** What a backup is locked by: one passphrase, from which come the key of its files, the key that proves its list, and the pair that waybills are sealed for. */
import { Failure } from '@torpor/kernel';
import { letterKey } from '@torpor/runtime';
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  hkdfSync,
  randomBytes,
  scrypt,
  timingSafeEqual,
  type KeyObject,
} from 'node:crypto';
import { z } from 'zod';

/** 128 MiB and about half a second for each guess. */
export const Hardness = z.object({
  salt: z.string(),
  n: z
    .number()
    .int()
    .max(2 ** 20),
  r: z.number().int().max(8),
  p: z.number().int().max(1),
});
export type Hardness = z.infer<typeof Hardness>;

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SIGNS_MIN = 12;

export function freshHardness(): Hardness {
  return { salt: randomBytes(16).toString('base64'), n: 2 ** 17, r: 8, p: 1 };
}

export class BackupLock {
  readonly #master: Buffer;

  private constructor(master: Buffer) {
    this.#master = master;
  }

  static async of(passphrase: string, { salt, n: N, r, p }: Hardness): Promise<BackupLock> {
    const options = { N, r, p, maxmem: 256 * N * r };
    const master = await new Promise<Buffer>((resolve, reject) =>
      scrypt(passphrase, Buffer.from(salt, 'base64'), 32, options, (error, key) =>
        error ? reject(error) : resolve(key),
      ),
    );
    return new BackupLock(master);
  }

  /** What waybills are sealed for. */
  get pair(): KeyObject {
    return letterKey(this.#key('waybills'));
  }

  /** `what` names the file: as another it is not opened. */
  seal(what: string, plain: Uint8Array): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key('files'), nonce).setAAD(Buffer.from(what));
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  }

  open(what: string, bytes: Buffer): Buffer {
    const decipher = createDecipheriv(CIPHER, this.#key('files'), bytes.subarray(0, NONCE_BYTES));
    decipher.setAAD(Buffer.from(what)).setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
  }

  prove(list: string): string {
    return createHmac('sha256', this.#key('list')).update(list).digest('hex');
  }

  isProven(list: string, proof: string): boolean {
    const [found, told] = [Buffer.from(this.prove(list)), Buffer.from(proof)];
    return found.length === told.length && timingSafeEqual(found, told);
  }

  #key(use: string): Buffer {
    return Buffer.from(hkdfSync('sha256', this.#master, '', `torpor backup ${use}`, 32));
  }
}

/** From the environment, so that it stands in no list of processes. */
export function passphraseIn(env: NodeJS.ProcessEnv): string {
  const { TORPOR_BACKUP_PASSPHRASE: passphrase } = env;
  if (passphrase === undefined || passphrase.length < SIGNS_MIN) {
    throw new Failure('bad_request', `TORPOR_BACKUP_PASSPHRASE must hold a passphrase of at least ${SIGNS_MIN} signs`);
  }
  return passphrase;
}
