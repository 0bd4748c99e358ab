/** Chance that can be had again: the same seed makes the same choices. */
import { createHash } from 'node:crypto';

export interface Chance {
  /** 0 ≤ x < 1. */
  next(): number;
  /** 0 … below − 1. */
  below(below: number): number;
  pick<T>(from: readonly T[]): T;
  /** By weights. */
  weighed<T extends string>(weights: Readonly<Record<T, number>>): T;
}

export function chanceOf(seed: string): Chance {
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0);
  /** Mulberry32. */
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number) => Math.floor(next() * bound);
  const pick = <T>(from: readonly T[]): T => {
    const one = from[below(from.length)];
    if (one === undefined) throw new Error('there is nothing to pick from');
    return one;
  };
  const weighed = <T extends string>(weights: Readonly<Record<T, number>>): T => {
    const names = Object.keys(weights) as T[]; // a record's own keys
    let left = next() * names.reduce((sum, name) => sum + weights[name], 0);
    return names.find((name) => (left -= weights[name]) < 0) ?? pick(names);
  };
  return { next, below, pick, weighed };
}
