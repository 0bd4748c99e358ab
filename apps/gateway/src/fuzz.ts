/** Bad input over all routes: whatever comes, the answer is a clear 4xx or better, in a shape that clients read, and never a 500. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { rehearse, type Rehearsal } from './rehearsal.ts';

/** Longer than any of the timers: who says nothing for so long has forgotten the caller. */
const HANG_MS = 4_000;

export function rehearseForFuzz(store?: Rehearsal['store']): Promise<Rehearsal> {
  return rehearse({ ...(store && { store }), limits: { bodyIdleMs: 200, headMs: 300, controlBodyMs: 300 } });
}

/** What these tests know besides the requests that are nearly right for all: `[method, path]`. */
export const ALSO = [
  ['GET', '/v0/quotas/account/@'],
  ['POST', '/v0/jobs/@/executions', {}, {}],
  ['GET', '/v0/sandboxes/BOX/previews/@/tokens/@'],
  ['POST', '/trpc/keys.create', {}, { name: 'fuzz', role: 'member' }],
  ['GET', '/healthz'],
  ['GET', '/x/v0/sandboxes'],
  ['GET', '/WS/sandboxes/BOX/-/v1/@'],
  ['GET', '/'],
] as const;

export function placesOf(stage: Rehearsal) {
  const headers = { 'x-blaxel-authorization': `Bearer ${stage.apiKey}` };
  return { workspace: stage.workspace, sandbox: 'box', preview: 'nobody', headers };
}

/** Sends so many requests. Answers how often each status came, and what should not have come at all. */
export async function fuzz(
  stage: Rehearsal,
  requests: number,
  requestAt: (index: number) => { readonly text: string; readonly half: boolean },
): Promise<{ statuses: ReadonlyMap<number, number>; wrong: readonly string[] }> {
  const statuses = new Map<number, number>();
  const wrong: string[] = [];
  stage.answer = (request, response) => {
    request.resume();
    response.end('{}');
  };
  const lanes = Array.from({ length: 16 }, async (_, lane) => {
    for (let i = lane; i < requests; i += 16) {
      const { text, half } = requestAt(i);
      const answer = await exchange(stage.gateway.port, text, half);
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const isWrong = status === 500 || answer.startsWith('HUNG') || (status >= 400 && !isClear(answer));
      if (isWrong) wrong.push(`${JSON.stringify(text.slice(0, 600))}\n→ ${answer.slice(0, 600)}`);
    }
  });
  await Promise.all(lanes);
  return { statuses, wrong };
}

/** JSON with a message, in whichever of the shapes. */
function isClear(answer: string): boolean {
  const cut = answer.indexOf('\r\n\r\n');
  if (/^HTTP\/1\.1 \d+ [^\r]*\r\n/.test(answer) && answer.length === cut + 4) return true; // HEAD has no body
  return /"message":"(?:[^"\\]|\\.){5,}/.test(answer.slice(cut));
}

async function exchange(port: number, text: string, half: boolean): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let said = '';
  socket.on('data', (bytes: Buffer) => (said += bytes.toString('latin1'))).on('error', () => undefined);
  socket.write(Buffer.from(text, 'latin1'));
  if (half) socket.end();
  socket.setTimeout(HANG_MS, () => {
    said = `HUNG after ${said}`;
    socket.destroy();
  });
  await once(socket, 'close');
  return said;
}
