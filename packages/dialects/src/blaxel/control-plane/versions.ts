import { accept, type BlaxelRefusal, type Parsed } from './refusals.ts';

/** Versions of the API that we speak, the oldest first. An absent header means the first. */
export const BLAXEL_VERSIONS = ['2026-04-16', '2026-04-28'] as const;
export type BlaxelVersion = (typeof BLAXEL_VERSIONS)[number];

/** Reads the `Blaxel-Version` header; `.preview` after a version is the same version to us. */
export function parseBlaxelVersion(header: string | undefined): Parsed<BlaxelVersion> {
  const asked = header?.trim();
  if (!asked) return accept(BLAXEL_VERSIONS[0]);
  const version = BLAXEL_VERSIONS.find((known) => asked === known || asked === `${known}.preview`);
  return version === undefined ? { ok: false, refusal: unknownVersion(asked) } : accept(version);
}

function unknownVersion(asked: string): BlaxelRefusal {
  const message = `Blaxel-Version is ${JSON.stringify(asked.slice(0, 40))}; expected one of ${BLAXEL_VERSIONS.join(', ')}`;
  return { status: 400, body: { error: 'invalid_api_version', message, code: 400 } };
}
