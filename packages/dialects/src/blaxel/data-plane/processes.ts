/** `/process`: looking at those that are there, ending them, and what they read. */
import { z } from 'zod';
import { guestPath, processPath } from './addresses.ts';
import { answerJson, answerStream, badRequest, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { ask, discard, GuestProcess, openStream } from './guest-calls.ts';
import { NO_OUTPUT, outputOf, type ProcessTexts } from './output.ts';
import { HEAD_MS } from './process-patience.ts';
import { toBlaxelProcess } from './process-view.ts';
import { jsonWithTexts } from './texts.ts';

const JSON_TYPE = 'application/json; charset=utf-8';
const ProcessList = z.object({ processes: z.array(GuestProcess) });

export async function listProcesses(exchange: Exchange): Promise<DataPlaneAnswer> {
  const { processes } = await ask(exchange.guest, ProcessList, 'GET', '/v1/processes', undefined, {
    signal: exchange.request.signal,
  });
  return answerJson(processes.map((process) => ({ ...toBlaxelProcess(process), ...NO_OUTPUT })));
}

export async function getProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  const process = await describe(exchange, idOf(exchange));
  return answerProcess(exchange, process, await outputOf(exchange.guest, process, exchange.request.signal));
}

export async function getLogs(exchange: Exchange): Promise<DataPlaneAnswer> {
  const process = await describe(exchange, idOf(exchange));
  return answerTexts(exchange, {}, await outputOf(exchange.guest, process, exchange.request.signal));
}

export async function stopProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  await signalProcess(exchange, 'TERM');
  return answerJson({ message: 'Process stopped successfully' });
}

export async function killProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  await signalProcess(exchange, 'KILL');
  return answerJson({ message: 'Process killed successfully' });
}

async function signalProcess(exchange: Exchange, signal: 'TERM' | 'KILL'): Promise<void> {
  const path = `${processPath(idOf(exchange))}/signal`;
  try {
    await exchange.guest.json('POST', path, { signal, group: true }, { signal: exchange.request.signal });
  } catch (error) {
    throw recode(error, { conflict: 'unprocessable' });
  }
}

export async function writeStdin(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = `${processPath(idOf(exchange))}/stdin`;
  const { body, signal } = exchange.request;
  const answer = await openStream(exchange.guest, { method: 'POST', path, body, signal, headMs: 0, bulk: true });
  discard(answer.body);
  return answerJson({ message: 'Stdin written successfully' });
}

export async function closeStdin(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = `${processPath(idOf(exchange))}/stdin`;
  await exchange.guest.json('DELETE', path, undefined, { signal: exchange.request.signal });
  return answerJson({ message: 'Stdin closed successfully' });
}

/** As it is now, or when it has ended within `waitMs`. */
export async function describe(exchange: Exchange, id: string, waitMs = 0): Promise<GuestProcess> {
  const path = guestPath(processPath(id), { waitMs: waitMs || undefined });
  return ask(exchange.guest, GuestProcess, 'GET', path, undefined, {
    headMs: HEAD_MS + waitMs,
    signal: exchange.request.signal,
  });
}

export function idOf(exchange: Exchange): string {
  const id = exchange.parameters['id'] ?? '';
  if (id === '') throw badRequest('the process is not named; expected its pid or name in the path');
  return id;
}

export function answerProcess(
  exchange: Exchange,
  process: GuestProcess,
  texts: ProcessTexts,
  echo: Record<string, unknown> = {},
): DataPlaneAnswer {
  const fields = { ...toBlaxelProcess(process), ...echo };
  return answerTexts(exchange, fields, texts);
}

/** JSON at once when all is known, streamed JSON else. */
function answerTexts(exchange: Exchange, fields: object, texts: ProcessTexts): DataPlaneAnswer {
  const { stdout, stderr, logs } = texts;
  if (typeof stdout === 'string' && typeof stderr === 'string' && typeof logs === 'string') {
    return answerJson({ ...fields, stdout, stderr, logs });
  }
  return answerStream(exchange, { contentType: JSON_TYPE }, () =>
    jsonWithTexts({ ...fields }, { stdout, stderr, logs }),
  );
}
