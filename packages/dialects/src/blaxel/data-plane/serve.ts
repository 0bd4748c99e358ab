/**
 * Blaxel's in-sandbox API, translated to the guest's calls. Nothing is remembered here between requests: whatever must last lies in the
 * sandbox itself, so that it sleeps, wakes and outlives the node-agent together with the sandbox.
 */
import { Failure } from '@torpor/kernel';
import { parseAddress } from './addresses.ts';
import { answerFailure, type DataPlaneAnswer, type DataPlaneCall } from './exchange.ts';
import { findRoute } from './routes.ts';

/** On every answer: browsers may call from anywhere, and nothing is to be kept. */
const HEADERS = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': '*',
  'access-control-allow-headers': '*',
  'access-control-expose-headers': '*',
  'cache-control': 'no-cache, no-store, must-revalidate',
  'x-accel-buffering': 'no',
} as const;

/** Answers one request. Refusals are answers; it rejects only for bugs, and when the caller has gone. */
export async function serveBlaxelDataPlane(call: DataPlaneCall): Promise<DataPlaneAnswer> {
  const answer = await serve(call);
  return { ...answer, headers: { ...HEADERS, ...answer.headers } };
}

async function serve(call: DataPlaneCall): Promise<DataPlaneAnswer> {
  const { method, rawPath, signal } = call.request;
  if (method === 'HEAD') return { status: 200, headers: {}, body: undefined };
  if (method === 'OPTIONS') return { status: 204, headers: {}, body: undefined };
  try {
    const address = parseAddress(rawPath);
    const { serve, parameters } = findRoute(method, address.rawPath);
    return await serve({ ...call, parameters, query: address.query });
  } catch (error) {
    if (error instanceof Failure && !signal.aborted) return answerFailure(error);
    throw error;
  }
}
