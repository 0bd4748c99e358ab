/**
 * How well a path resembles what somebody typed: all signs must occur in order. Signs in a row, at the beginning of a word and in the file's own name
 * count more. Undefined when they do not all occur.
 */
export function scoreName(path: string, query: string): number | undefined {
  const text = path.toLowerCase();
  const nameFrom = text.lastIndexOf('/') + 1;
  let score = 0;
  let from = 0;
  let last = -2;
  for (const sign of query.toLowerCase()) {
    const at = text.indexOf(sign, from);
    if (at < 0) return undefined;
    score += 10;
    if (at === last + 1) score += 8;
    if (at === 0 || /[/._ -]/.test(text.charAt(at - 1))) score += 6;
    if (at >= nameFrom) score += 4;
    last = at;
    from = at + 1;
  }
  return score;
}
