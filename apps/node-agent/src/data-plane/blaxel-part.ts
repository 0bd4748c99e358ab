import { serveBlaxelDataPlane } from '@torpor/dialects';
import { send, type Exchange } from './exchange.ts';

/** The Blaxel sandbox API: translated in `dialects`, which is given the request as it came. */
export async function serveBlaxel(exchange: Exchange): Promise<void> {
  const { request, stay, instance, signal, clock, chance, target } = exchange;
  const answer = await serveBlaxelDataPlane({
    request: { method: request.method ?? 'GET', rawPath: target.rest, headers: request.headers, body: request, signal },
    guest: stay.guest,
    workdir: instance.claim.workdir,
    clock,
    chance,
    hold: {
      keepAwake: () => {
        stay.become('stream');
        return () => {}; // The stay ends with the answer.
      },
    },
  });
  await send(exchange, answer);
}
