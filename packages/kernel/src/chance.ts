import { randomBytes } from 'node:crypto';

/** Randomness, as a room is given it. The simulator gives a seeded one. */
export interface Chance {
  /** A number in [0, 1). */
  fraction(): number;
  bytes(length: number): Buffer;
}

export const systemChance: Chance = {
  fraction: () => fewBytes(6).readUIntBE(0, 6) / 2 ** 48,
  bytes: fewBytes,
};

const STOCK_BYTES = 4096;
let stock = Buffer.alloc(0);

/** Asks for a stock at once: a request needs a few bytes for its names, and each asking costs more than they do. No byte is given twice. */
function fewBytes(length: number): Buffer {
  if (length > 64) return randomBytes(length);
  if (stock.length < length) stock = randomBytes(STOCK_BYTES);
  const given = Buffer.from(stock.subarray(0, length));
  stock.fill(0, 0, length);
  stock = stock.subarray(length);
  return given;
}

const ALPHABET = 'abcdefghijkmnpqrstuvwxyz23456789'; // 32 signs, none that people confuse

/** A random word of `length` signs of a 32-sign alphabet: 5 bits each. */
export function randomWord(chance: Chance, length: number): string {
  let word = '';
  for (const byte of chance.bytes(length)) word += ALPHABET[byte & 31];
  return word;
}

/** A seeded generator (mulberry32, public domain algorithm by T. Ettinger): the same seed tells the same story. */
export function seededChance(seed: number): Chance {
  let state = seed >>> 0;
  const fraction = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { fraction, bytes: (length) => Buffer.from(Array.from({ length }, () => Math.floor(fraction() * 256))) };
}
