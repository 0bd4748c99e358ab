import { Failure } from '@torpor/kernel';
import { send, type Exchange } from './exchange.ts';

/** The guest's calls that a caller may make. Identity, mounts and tunnels are ours. */
const OPEN_CALLS = /^\/v1\/(health|metrics|busy|processes|files|ports)(?=$|[/?])/;
const STREAMS = /^\/v1\/(files\/watch|processes\/[^/?]+\/output\?(.*&)?follow=1)/;
const BULK = /^\/v1\/files\/(content|assemble)/;

const PASSED = ['content-type', 'content-length', 'range', 'accept', 'if-match', 'if-none-match'] as const;

/** The guest's own calls, for our CLI and SDK: passed through as they came. */
export async function serveGuest(exchange: Exchange): Promise<void> {
  const { request, stay, target, signal } = exchange;
  const { rest } = target;
  if (!OPEN_CALLS.test(rest)) {
    throw new Failure('not_found', `the guest has no open call ${rest.split('?')[0]}; see packages/guest/PROTOCOL.md`);
  }
  if (STREAMS.test(rest)) stay.become('stream');
  const hasBody = request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined;
  const answer = await stay.guest.send({
    method: request.method ?? 'GET',
    path: rest,
    headers: Object.fromEntries(
      PASSED.flatMap((name) => (request.headers[name] === undefined ? [] : [[name, request.headers[name]]])),
    ),
    ...(hasBody ? { body: request } : {}),
    signal,
    headMs: 0,
    bulk: BULK.test(rest),
  });
  await send(exchange, { status: answer.status, headers: ours(answer.headers), body: answer.body });
}

function ours(headers: Readonly<Record<string, string>>): Record<string, string> {
  const { connection: _, 'transfer-encoding': __, 'keep-alive': ___, ...rest } = headers;
  return rest;
}
