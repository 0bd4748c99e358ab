import { Generation, InstanceId } from '@torpor/contracts';

export type Part =
  | { readonly kind: 'blaxel' }
  | { readonly kind: 'guest' }
  | { readonly kind: 'port'; readonly port: number; readonly isPreview: boolean };

/** Where a data-plane request goes (packages/contracts/src/data-plane.ts). `rest` is the caller's raw path and query and starts with `/`. */
export interface Target {
  readonly instanceId: InstanceId;
  readonly generation: Generation;
  readonly part: Part;
  readonly rest: string;
}

const TARGET = /^\/d\/([a-z0-9]{8,24})\/([1-9]\d{0,14})\/(blaxel|guest|(port|preview)\/(\d{1,5}))(?=$|[/?])(.*)$/s;

/** `undefined` when it is not an address of ours. Nothing is decoded and no slashes are merged. */
export function parseTarget(url: string): Target | undefined {
  const [, id, generation, part, way, port, rest = ''] = TARGET.exec(url) ?? [];
  if (!id || !generation || !part) return undefined;
  const parsed = partOf(part, way, port);
  if (!parsed) return undefined;
  return {
    instanceId: InstanceId.parse(id),
    generation: Generation.parse(Number(generation)),
    part: parsed,
    rest: rest.startsWith('/') ? rest : `/${rest}`,
  };
}

function partOf(part: string, way: string | undefined, port: string | undefined): Part | undefined {
  if (part === 'blaxel' || part === 'guest') return { kind: part };
  const number = Number(port);
  return number >= 1 && number <= 65_535 ? { kind: 'port', port: number, isPreview: way === 'preview' } : undefined;
}
