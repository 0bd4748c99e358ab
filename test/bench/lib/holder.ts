/** A program that holds so much incompressible memory, and answers at port 3000: at once, or after it has read all that it holds. */
import type { Dispatcher } from 'undici';
import { createOne, putFile, type Made } from './sandboxes.ts';
import { client, expectOk, type Answer, type Stack } from './stack.ts';

const PATH = '/blaxel/holder.py';
/** Random bytes without a zero among them, so that looking for one reads every byte, at the speed of the C library's memchr. */
const PROGRAM = `
import http.server, os, sys
memory = bytearray()
for _ in range(int(sys.argv[1])): memory += os.urandom(1 << 20).replace(b"\\0", b"\\1")
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = str(memory.find(b"\\0") if self.path == "/all" else len(memory)).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Answer).serve_forever()
`;

/** By its memory alone the smallest would have a quarter of a processor, and the figures would be of that quota. */
export const CPUS = 2;

export interface Holder extends Made {
  /** One request, timed; its answer is checked. */
  ask(via: Dispatcher, what?: '' | 'all'): Promise<Answer>;
}

/** Falls asleep only when told. */
export async function startHolder(stack: Stack, name: string, mib: number): Promise<Holder> {
  const via = client(stack.url, 1);
  const made = await createOne(stack, name, { idle: { kind: 'never' }, memoryMib: Math.max(512, 2 * mib), cpus: CPUS });
  await putFile(via, stack, made, PATH, PROGRAM);
  await expectOk(via, `${made.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ command: `python3 ${PATH} ${mib}`, name: 'holder', waitForPorts: [3000] }),
  });
  await via.close();
  return { ...made, ask: (by, what = '') => ask(stack, made, mib, by, what) };
}

async function ask(stack: Stack, made: Made, mib: number, via: Dispatcher, what: '' | 'all'): Promise<Answer> {
  const answer = await expectOk(via, `${made.url}/port/3000/${what}`, { headers: { ...stack.headers } });
  const expected = what === 'all' ? '-1' : String(mib << 20);
  const said = answer.body.toString();
  if (said !== expected) throw new Error(`the holder in ${made.name} said ${said}, and not ${expected}`);
  return answer;
}
