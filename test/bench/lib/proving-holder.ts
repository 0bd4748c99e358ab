/**
 * A sandbox that holds so many MiB of incompressible memory, and proves at each request that it still does: it answers the checksum of the MiB that it was asked
 * for, as it is now, and how often it was asked. What it answers must be what it said of itself at its start.
 */
import type { Dispatcher } from 'undici';
import { createOne, putFile, type Made } from './sandboxes.ts';
import { expectOk, timed, type Answer, type Stack } from './stack.ts';

const MIB_OF_ALL = -1;
const PROGRAM = (mib: number) => `
import http.server, json, os, threading, zlib
held = [bytearray(os.urandom(1 << 20)) for _ in range(${mib})]
sums, calls, lock = [zlib.crc32(each) for each in held], 0, threading.Lock()
class Tell(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global calls
        at = int(self.path.rsplit("/", 1)[1])
        with lock:
            calls += 1
            count = calls
        told = sums if at < 0 else [zlib.crc32(held[at])]
        body = json.dumps({"sums": told, "calls": count}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Tell).serve_forever()
`;

export interface Holder {
  readonly made: Made;
  readonly sums: readonly number[];
  /** Requests that it has answered, as far as we know. */
  calls: number;
}

export type Asked =
  | { readonly kind: 'whole'; readonly tookMs: number; readonly found: string }
  /** Told to come again. */
  | { readonly kind: 'refused'; readonly retryAfterS: number | undefined; readonly tookMs: number }
  | { readonly kind: 'failed'; readonly reason: string }
  /** It answered, and is not what it was. */
  | { readonly kind: 'lost'; readonly reason: string };

export async function startHolder(
  stack: Stack,
  dispatcher: Dispatcher,
  { name, mib, idleMs }: { name: string; mib: number; idleMs: number },
): Promise<Holder> {
  const made = await createOne(stack, name, { idle: { kind: 'after', idleMs } });
  await putFile(dispatcher, stack, made, '/blaxel/holder.py', PROGRAM(mib));
  await expectOk(dispatcher, `${made.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ command: 'python3 /blaxel/holder.py', name: 'holder', waitForPorts: [3000] }),
  });
  const { sums, calls } = told(await ask(stack, dispatcher, made, MIB_OF_ALL));
  return { made, sums, calls };
}

/** One request for a MiB of its memory. Never rejects. */
export async function askHolder(stack: Stack, dispatcher: Dispatcher, holder: Holder, at: number): Promise<Asked> {
  let answer: Answer;
  try {
    answer = await ask(stack, dispatcher, holder.made, at);
  } catch (error) {
    return { kind: 'failed', reason: String(error) };
  }
  const { status, headers, tookMs } = answer;
  if (status === 503) {
    const retryAfter = Number(headers['retry-after']);
    return { kind: 'refused', retryAfterS: Number.isFinite(retryAfter) ? retryAfter : undefined, tookMs };
  }
  if (status !== 200) return { kind: 'failed', reason: `${status}: ${answer.body.toString().slice(0, 200)}` };
  const { sums, calls } = told(answer);
  const mine = at === MIB_OF_ALL ? holder.sums : [holder.sums[at]];
  if (JSON.stringify(sums) !== JSON.stringify(mine)) return { kind: 'lost', reason: `MiB ${at} is another` };
  // Answers may overtake each other, and what it counts for others may be ahead.
  if (calls <= holder.calls - 64) return { kind: 'lost', reason: `it counted ${holder.calls}, now ${calls}` };
  holder.calls = Math.max(holder.calls, calls);
  return { kind: 'whole', tookMs, found: foundIn(headers) };
}

function ask(stack: Stack, dispatcher: Dispatcher, { url }: Made, at: number): Promise<Answer> {
  return timed(dispatcher, `${url}/port/3000/${at}`, { headers: stack.headers });
}

function told(answer: Answer): { sums: number[]; calls: number } {
  if (answer.status !== 200) throw new Error(`answered ${answer.status}: ${answer.body.toString().slice(0, 300)}`);
  return JSON.parse(answer.body.toString()) as { sums: number[]; calls: number }; // our own program's answer
}

/** Where it was woken from, if it was. */
function foundIn(headers: Answer['headers']): string {
  return /wake;desc="([a-z]+)"/.exec(String(headers['server-timing'] ?? ''))?.[1] ?? 'awake';
}
