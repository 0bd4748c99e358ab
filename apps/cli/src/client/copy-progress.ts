import type { Out } from '../setup/progress.ts';
import type { Tally } from './copy.ts';

/** Nobody needs to be told of what is over before they look. */
const FIRST_MS = 700;
const EVERY_MS = 200;

/** Shows what a long copy has done so far, on one line of a terminal; the answer takes it away again. Elsewhere nothing is shown. */
export function showProgress(tally: Readonly<Tally>, out: Out): () => void {
  if (!out.isTTY) return () => {};
  const began = performance.now();
  let shown = false;
  const timer = setInterval(() => {
    const tookMs = performance.now() - began;
    if (tookMs < FIRST_MS) return;
    shown = true;
    out.write(
      `\r\x1b[K${inWords(tally)}, ${inUnits(tally.bytes / (tookMs / 1000))}/s`.slice(0, (out.columns || 80) + 3),
    );
  }, EVERY_MS);
  return () => {
    clearInterval(timer);
    if (shown) out.write('\r\x1b[K');
  };
}

export function inWords({ files, folders, links, bytes, leftOut }: Readonly<Tally>): string {
  const many = (count: number, thing: string) => `${count} ${thing}${count === 1 ? '' : 's'}`;
  const some = (count: number, thing: string) => (count > 0 ? [many(count, thing)] : []);
  const line = [many(files, 'file'), ...some(folders, 'folder'), ...some(links, 'link'), inUnits(bytes)].join(', ');
  return [line, ...leftOut.map((path) => `left out, being no file, folder or link that could be made: ${path}`)].join(
    '\n',
  );
}

export function inUnits(bytes: number): string {
  if (bytes < 1_024) return `${Math.round(bytes)} bytes`;
  const power = bytes < 1 << 20 ? 1 : bytes < 1 << 30 ? 2 : 3;
  return `${(bytes / 1_024 ** power).toFixed(1)} ${['KiB', 'MiB', 'GiB'][power - 1]}`;
}
