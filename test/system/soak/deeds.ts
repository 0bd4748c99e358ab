/** What happens inside a soaked sandbox between two sleeps. */
import type { Chance } from './chance.ts';
import { BLOCKS, PLACES, type Deed, type Known } from './known.ts';
import type { Sleeper } from './sleeper.ts';

const FILES_MAX = 12;
const FILE_BYTES_MAX = 1 << 20;
const CHILDREN_MAX = 5;

/** One to four changes. */
export async function change(one: Sleeper, chance: Chance): Promise<void> {
  for (let left = 1 + chance.below(4); left > 0; left--) {
    const known = one.known ?? (await one.check()).known;
    await one.do(deedFor(known, chance));
  }
}

function deedFor(known: Known, chance: Chance): Deed {
  const place = chance.pick(PLACES);
  const names = [...known.files[place].keys()];
  const children = [...known.children];
  const what = chance.weighed({ remember: 3, write: 4, remove: 1, start: 1, end: 1 });
  const word = `${known.id}/${chance.next()}`;
  if (what === 'remove' && names.length > 0) return { kind: 'remove', place, name: chance.pick(names) };
  if (what === 'start' && children.length < CHILDREN_MAX)
    return { kind: 'start', name: `child-${word.length}-${chance.below(1e9)}` };
  if (what === 'end' && children.length > 0) return { kind: 'end', name: chance.pick(children) };
  if (what === 'remember') return { kind: 'remember', block: chance.below(BLOCKS), word };
  const name = names.length < FILES_MAX && chance.next() < 0.6 ? `file-${chance.below(1e9)}` : (names[0] ?? 'file');
  return { kind: 'write', place, name, word, bytes: chance.below(FILE_BYTES_MAX), sync: chance.next() < 0.5 };
}
