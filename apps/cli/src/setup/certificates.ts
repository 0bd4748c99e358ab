/** Certificates in PEM bundles, compared by their content: names, comments and line breaks do not count. */

const block = /-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/g;

/** The certificates of `host` that `base` lacks, each as one PEM text; in order, without repeats. */
export function extraCertificates(host: string, base: string): string[] {
  const known = new Set(bodies(base));
  const extra: string[] = [];
  for (const body of bodies(host)) {
    if (known.has(body)) continue;
    known.add(body);
    extra.push(pem(body));
  }
  return extra;
}

function bodies(bundle: string): string[] {
  return [...bundle.matchAll(block)].map((match) => (match[1] ?? '').replaceAll(/\s/g, ''));
}

function pem(body: string): string {
  const lines = body.match(/.{1,64}/g) ?? [];
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}
