const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

/** Ten years: beyond it a span is a mistake. */
const SPAN_MS_MAX = 3_660 * UNIT_MS.d;

/** Reads `30m`, `24h`, `7d`, `2w`, `1h30m` into milliseconds; undefined when it is no such span, or longer than ten years. */
export function parseSpan(text: string): number | undefined {
  if (!/^(\d{1,12}[smhdw])+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([smhdw])/g)) {
    ms += Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS]; // the pattern admits only these units
  }
  return ms <= SPAN_MS_MAX ? ms : undefined;
}

/** Reads an RFC 3339 date into ms since the epoch; undefined when it is none. */
export function parseDate(text: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?$/.test(text)) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

export const EXPECTED_SPAN = 'a span such as 30m, 24h, 7d or 2w (units s, m, h, d, w), at most ten years';
