/** Whether a stranger may see a preview. Pure, apart from the hash of the token that is shown. */
import { tokenOpens, type PreviewWay } from '@torpor/store';
import { PREVIEW_COOKIE } from '../run-plane/headers.ts';

const QUERY = 'bl_preview_token';

export interface Shown {
  /** As it stands in the URL: empty or beginning with `?`. */
  readonly query: string;
  readonly header: string | undefined;
  readonly cookie: string | undefined;
}

export type PreviewVerdict =
  /** `query` without the token. `remember`: the token, to be kept as a cookie so that a page's own requests are let in too. */
  | { readonly kind: 'open'; readonly query: string; readonly remember: string | undefined }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'ended' };

export function admitToPreview(
  found: Pick<PreviewWay, 'preview' | 'tokens'>,
  shown: Shown,
  nowMs: number,
): PreviewVerdict {
  const { preview, tokens } = found;
  if (preview.expiresAtMs !== undefined && preview.expiresAtMs <= nowMs) return { kind: 'ended' };
  const { token: fromQuery, rest } = takeToken(shown.query);
  if (preview.public) return { kind: 'open', query: rest, remember: undefined };
  const fromCookie = cookieToken(shown.cookie);
  const candidates = [fromQuery, shown.header, fromCookie].filter((token) => token !== undefined);
  if (candidates.length === 0) {
    return {
      kind: 'refused',
      why: `this preview is private; show a token as ?${QUERY}=… or in the header X-Blaxel-Preview-Token`,
    };
  }
  const good = candidates.find((token) => tokenOpens(tokens, token, nowMs));
  if (good === undefined) return { kind: 'refused', why: 'the preview token is unknown, revoked or expired' };
  const remember = good === fromQuery && good !== fromCookie ? good : undefined;
  return { kind: 'open', query: rest, remember };
}

function takeToken(query: string): { token: string | undefined; rest: string } {
  if (!query.includes(QUERY)) return { token: undefined, rest: query };
  const pairs = query.slice(1).split('&');
  const ours = pairs.find((pair) => pair.startsWith(`${QUERY}=`));
  const rest = pairs.filter((pair) => !pair.startsWith(`${QUERY}=`)).join('&');
  return { token: ours?.slice(QUERY.length + 1), rest: rest === '' ? '' : `?${rest}` };
}

function cookieToken(cookie: string | undefined): string | undefined {
  const pair = cookie?.split(';').find((part) => part.trim().startsWith(`${PREVIEW_COOKIE}=`));
  return pair?.trim().slice(PREVIEW_COOKIE.length + 1);
}
