import type { Finding, Status } from './findings.ts';

/** The findings as a table for a person: each shortfall with why it matters and what to do. */
export function renderFindings(
  findings: readonly Finding[],
  options: { readonly color: boolean } = { color: false },
): string {
  const nameWidth = Math.max(...findings.map((finding) => finding.name.length));
  const rows = findings.flatMap((finding) => {
    const indent = ' '.repeat(nameWidth + 12);
    const row = `${paint(finding.status.padEnd(8), finding.status, options.color)}  ${finding.name.padEnd(nameWidth)}  ${finding.found}`;
    return finding.status === 'ok' ? [row] : [row, `${indent}for: ${finding.why}`, `${indent}do:  ${finding.todo}`];
  });
  return [...rows, '', summary(findings), ''].join('\n');
}

function summary(findings: readonly Finding[]): string {
  const counts = (['ok', 'degraded', 'missing'] as const).map(
    (status) => `${findings.filter((finding) => finding.status === status).length} ${status}`,
  );
  return counts.join(', ');
}

function paint(text: string, status: Status, color: boolean): string {
  const code = { ok: 32, degraded: 33, missing: 31 }[status];
  return color ? `\x1b[${code}m${text}\x1b[0m` : text;
}
