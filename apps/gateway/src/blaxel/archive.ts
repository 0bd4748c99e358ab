/**
 * The dialect's archive. For us it is a sandbox that was stored because somebody asked: it keeps its memory as well as its files, and not only `unarchive`
 * brings it back but any use of it.
 */
import type { Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { ControlAsk, Row } from './ask.ts';
import { nameIn, showWhole, type SandboxRowsParts } from './sandboxes.ts';

/** What ends within it is answered as done, and what fails within it is refused. Longer work goes on, and the sandbox's status tells how it stands. */
const GRACE_MS = 1_000;

export interface ArchiveRowsParts extends SandboxRowsParts {
  /** Something went wrong after the answer. */
  readonly onTrouble: (doing: string, error: unknown) => void;
}

export function archiveRows(parts: ArchiveRowsParts): Row[] {
  return [
    {
      method: 'POST',
      pattern: '/sandboxes/:name/archive',
      action: 'sandboxes:use',
      audit: 'sandbox.archive',
      handle: (ask) => archive(parts, ask),
    },
    {
      method: 'POST',
      pattern: '/sandboxes/:name/unarchive',
      action: 'sandboxes:use',
      audit: 'sandbox.unarchive',
      handle: (ask) => unarchive(parts, ask),
    },
  ];
}

async function archive(parts: ArchiveRowsParts, ask: ControlAsk): Promise<unknown> {
  const sandbox = await deployed(parts, ask);
  const stored = await begun(parts, 'archive', parts.sandboxes.store(sandbox, ask.exchange.span.traceparent));
  if (stored && stored.state !== 'stored') {
    const why = stored.reason ?? `it was used meanwhile, and is ${stored.state}`;
    throw new Failure('conflict', `the sandbox "${sandbox.name}" could not be archived: ${why}`);
  }
  return showWhole(parts, ask, sandbox);
}

async function unarchive(parts: ArchiveRowsParts, ask: ControlAsk): Promise<unknown> {
  const sandbox = await deployed(parts, ask);
  await begun(parts, 'unarchive', parts.sandboxes.resume(sandbox, ask.exchange.span.traceparent));
  return showWhole(parts, ask, sandbox);
}

async function deployed(parts: ArchiveRowsParts, ask: ControlAsk): Promise<Sandbox> {
  const sandbox = await parts.sandboxes.living(ask.caller.workspace, nameIn(ask));
  if (sandbox.phase === 'ready') return sandbox;
  throw new Failure('conflict', `the sandbox "${sandbox.name}" is ${sandbox.phase}; expected one that is deployed`);
}

/** `undefined`: it goes on. */
async function begun<T>(parts: ArchiveRowsParts, doing: string, work: Promise<T>): Promise<T | undefined> {
  const bell = new AbortController();
  const grace = parts.clock.after(GRACE_MS, bell.signal).then(
    () => undefined,
    () => undefined,
  );
  let goesOn = false;
  work.catch((error: unknown) => {
    if (goesOn) parts.onTrouble(doing, error);
  });
  try {
    return await Promise.race([work, grace]);
  } finally {
    goesOn = true;
    bell.abort(new Error('nobody waits any more'));
  }
}
