import type { Credentials } from './credentials.ts';

export const DIALECTS = ['blaxel'] as const;
export type DialectName = (typeof DIALECTS)[number];

/** The variables by which an unmodified SDK finds this stack, from wherever it runs: by what the outside calls the stack, if that is known. */
export function environmentOf(dialect: DialectName, credentials: Credentials): Record<string, string> {
  const { workspace, apiKey } = credentials;
  const url = credentials.publicUrl ?? credentials.url;
  switch (dialect) {
    case 'blaxel':
      return {
        BL_API_URL: `${url}/v0`,
        BL_RUN_URL: url,
        BL_WORKSPACE: workspace,
        BL_API_KEY: apiKey,
        // Without it the SDK would send our requests, and our key, to Blaxel's own edge as soon as a region is known.
        BL_DISABLE_H2: '1',
      };
  }
}

export function exportLines(variables: Readonly<Record<string, string>>): string {
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'`)
    .join('\n');
}
