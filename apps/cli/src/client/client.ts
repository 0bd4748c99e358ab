/** How the CLI reaches a stack: tRPC for what is managed, plain HTTP to the guest's own calls for what happens inside a sandbox. */
import type { ApiRouter, FailureView } from '@torpor/api';
import type { SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { TRPCClient } from '@trpc/client';
import type { Dispatcher } from 'undici';
import { readCredentials, type Credentials } from '../up/credentials.ts';
import { thisInstallation } from '../up/installation.ts';
import { eventSourceOver } from './event-source.ts';
import { brokenWith, isConnectionBroken, plainly, PlainFailure } from './plain-words.ts';

export interface Client {
  readonly at: Credentials;
  readonly api: TRPCClient<ApiRouter>;
  /** A call to the guest of a sandbox. Rejects with a Failure for every status ≥ 400. */
  guest(
    sandbox: string,
    method: Dispatcher.HttpMethod,
    path: string,
    body?: Dispatcher.DispatchOptions['body'] | object,
  ): Promise<Dispatcher.ResponseData>;
}

/** From TORPOR_URL, TORPOR_API_KEY and TORPOR_WORKSPACE, else from what `torpor up` wrote on this machine. */
export async function openClient(env: NodeJS.ProcessEnv = process.env): Promise<Client> {
  const at = await whereTo(env);
  // A third of this program's modules: commands that speak to no stack start without them.
  const [{ createTRPCClient, httpBatchLink, httpSubscriptionLink, splitLink }, { Agent, request }] = await Promise.all([
    import('@trpc/client'),
    import('undici'),
  ]);
  const headers = { authorization: `Bearer ${at.apiKey}`, 'x-blaxel-workspace': at.workspace };
  const url = `${at.url}/trpc`;
  const api = createTRPCClient<ApiRouter>({
    links: [
      splitLink({
        condition: (operation) => operation.type === 'subscription',
        true: httpSubscriptionLink({ url, EventSource: eventSourceOver(withHeaders(headers)) }),
        false: httpBatchLink({ url, headers: () => headers }),
      }),
    ],
  });
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 }); // follows last as long as what they follow
  return {
    at,
    api,
    guest: (sandbox, method, path, body) =>
      callGuest(
        (url, options) => request(url, { dispatcher, ...options }),
        `${at.url}/${at.workspace}/sandboxes/${encodeURIComponent(sandbox)}/-${path}`,
        method,
        headers,
        body,
      ),
  };
}

async function whereTo(env: NodeJS.ProcessEnv): Promise<Credentials> {
  const own = await readCredentials(thisInstallation(env));
  const url = env.TORPOR_URL ?? own?.url;
  const apiKey = env.TORPOR_API_KEY ?? own?.apiKey;
  const workspace = env.TORPOR_WORKSPACE ?? own?.workspace;
  if (url && apiKey && workspace) return { url: url.replace(/\/+$/, ''), apiKey, workspace };
  throw new Failure(
    'unauthenticated',
    'no stack is known here; "torpor up" starts one, or set TORPOR_URL, TORPOR_API_KEY and TORPOR_WORKSPACE',
  );
}

function withHeaders(headers: Readonly<Record<string, string>>): typeof fetch {
  return (input, init) =>
    fetch(input, { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), ...headers } });
}

type Request = (
  url: string,
  options: {
    method: Dispatcher.HttpMethod;
    headers: Record<string, string>;
    body?: Dispatcher.DispatchOptions['body'] & {};
  },
) => Promise<Dispatcher.ResponseData>;

async function callGuest(
  request: Request,
  url: string,
  method: Dispatcher.HttpMethod,
  headers: Readonly<Record<string, string>>,
  body: Dispatcher.DispatchOptions['body'] | object | undefined,
): Promise<Dispatcher.ResponseData> {
  const isJson = body !== undefined && body !== null && Object.getPrototypeOf(body) === Object.prototype;
  const answer = await request(url, {
    method,
    headers: { ...headers, ...(isJson ? { 'content-type': 'application/json' } : {}) },
    // What is not a plain object is bytes or a stream already.
    ...(body === undefined
      ? {}
      : { body: isJson ? JSON.stringify(body) : (body as Dispatcher.DispatchOptions['body'] & {}) }),
  });
  if (answer.statusCode < 400) return answer;
  throw failureOf(answer.statusCode, await answer.body.text());
}

function failureOf(status: number, text: string): Failure {
  const body: unknown = text.startsWith('{') ? JSON.parse(text) : { error: text };
  const error = (body as { error?: unknown }).error;
  if (typeof error === 'object' && error !== null && 'message' in error)
    return new Failure('bad_gateway', String(error.message));
  return new Failure('bad_gateway', `the sandbox answered ${status}: ${typeof error === 'string' ? error : text}`);
}

/** The failure that a call met, as the gateway named it or as a person understands it. */
export function clientFailure(error: unknown): unknown {
  if (!(error instanceof Error && error.name === 'TRPCClientError')) return plainly(error);
  const { data } = error as Error & { data?: { failure?: FailureView } }; // put there by our router's error formatter
  const view = data?.failure;
  if (view) return plainly(new Failure(view.code, view.message, { retryable: view.retryable }));
  return new PlainFailure('unavailable', 'the stack does not answer; is it up? ("torpor status" tells)', error);
}

/** Runs calls to the stack; a failure comes as `clientFailure` says it. */
export async function using<T>(work: (client: Client) => Promise<T>): Promise<T> {
  try {
    return await work(await openClient());
  } catch (error) {
    throw clientFailure(error);
  }
}

/** The same for work in one sandbox: when the connection breaks meanwhile, the failure says what became of the sandbox. */
export function usingSandbox<T>(name: string, work: (client: Client) => Promise<T>): Promise<T> {
  return using(async (client) => {
    try {
      return await work(client);
    } catch (error) {
      if (!isConnectionBroken(error)) throw error;
      throw brokenWith(name, await stateNow(client, name), error);
    }
  });
}

const STATE_MS = 5_000;

/** Undefined when nobody says within `STATE_MS`: the connection that broke is all that can be told then. */
async function stateNow(client: Client, name: string): Promise<{ state: string; reason?: string } | undefined> {
  try {
    // The gateway judges names; a branded type here would only repeat it.
    const view = await client.api.sandboxes.get.query(
      { name: name as SandboxName },
      { signal: AbortSignal.timeout(STATE_MS) },
    );
    const state = view.phase === 'ready' ? (view.state ?? view.phase) : view.phase;
    return { state, ...(view.reason === undefined ? {} : { reason: view.reason }) };
  } catch {
    return undefined;
  }
}
