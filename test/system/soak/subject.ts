/** The program in a soaked sandbox: does what it is told, once each, and tells all that it has. */
import { request } from 'undici';
import { putFile, type Made } from '../../bench/lib/sandboxes.ts';
import { expectOk, patient, type Stack } from '../../bench/lib/stack.ts';
import { Lost } from '../counter.ts';
import { reportOf } from '../node-calls.ts';
import { until } from '../until.ts';
import { BLOCK_BYTES, MEMORY_MIB, type Deed, type Place, type Told } from './known.ts';

const PATIENCE_MS = 120_000;
const TRY_MS = 30_000;
export const VOLUME = '/data';
const PATH = '/blaxel/subject.py';
const PROGRAM = `
import hashlib, http.server, json, os, subprocess, sys, threading
stream = lambda word, size: hashlib.shake_128(word.encode()).digest(size)
sha = lambda data: hashlib.sha256(data).hexdigest()
memory, last, lock = bytearray(stream(sys.argv[1], ${MEMORY_MIB} << 20)), sys.argv[1], threading.Lock()
PLACES, children = json.loads(sys.argv[2]), {}
for path in PLACES.values(): os.makedirs(path)
def write(path, data, sync):
    try:
        with open(path + ".new", "wb") as file:
            file.write(data); file.flush()
            if sync: os.fsync(file.fileno())
    except OSError: # A full disk leaves nothing half written.
        os.path.exists(path + ".new") and os.unlink(path + ".new")
        raise
    os.rename(path + ".new", path)
    if sync:
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(directory); os.close(directory)
def do(deed):
    kind = deed["kind"]
    if kind == "remember":
        at = deed["block"] * ${BLOCK_BYTES}
        memory[at:at + ${BLOCK_BYTES}] = stream(deed["word"], ${BLOCK_BYTES})
    elif kind == "start":
        children[deed["name"]] = subprocess.Popen(["soaked-" + deed["name"], "1000000"], executable="/bin/sleep")
    elif kind == "end":
        child = children.pop(deed["name"]); child.kill(); child.wait()
    else:
        path = os.path.join(PLACES[deed["place"]], deed["name"])
        if kind == "remove": os.unlink(path)
        else: write(path, stream(deed["word"], deed["bytes"]), deed["sync"])
def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file: return file.read().split(b"\\0")[0].decode()
    except OSError: return ""
def hashes(path):
    found = {}
    for name in os.listdir(path):
        with open(os.path.join(path, name), "rb") as file: found[name] = sha(file.read())
    return found
def tell():
    running = sorted(name.removeprefix("soaked-") for name in map(command, filter(str.isdigit, os.listdir("/proc"))) if name.startswith("soaked-"))
    return {"last": last, "memory": sha(memory), "files": {place: hashes(path) for place, path in PLACES.items()}, "children": running}
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, said):
        body = json.dumps(said).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        with lock: self.answer(tell())
    def do_POST(self):
        global last
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with lock:
            if asked["id"] == last: return self.answer({"kind": "done"})
            if asked["after"] != last: return self.answer({"kind": "elsewhere", "last": last})
            try:
                do(asked["deed"]); last = asked["id"]
                self.answer({"kind": "done"})
            except OSError as error: self.answer({"kind": "refused", "why": str(error)})
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Answer).serve_forever()
`;

export type Done =
  | { readonly kind: 'done' }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'elsewhere'; readonly last: string };

/** Where each kind of its files lies. On a volume that was another's they lie beside what that has left. */
export function directoriesOf(name: string): Readonly<Record<Place, string>> {
  return { disk: '/root/soak', volume: `${VOLUME}/${name}`, tmpfs: '/dev/shm/soak' };
}

export async function startSubject(stack: Stack, made: Made): Promise<void> {
  await putFile(patient, stack, made, PATH, PROGRAM);
  await expectOk(patient, `${made.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({
      name: 'subject',
      command: `python3 ${PATH} ${made.name} '${JSON.stringify(directoriesOf(made.name))}'`,
      waitForPorts: [3000],
    }),
  });
}

/** Its memory was lost, and that was announced. */
export class Announced extends Error {}

/** Has it do something exactly once, however often that must be asked while processes of the stack come back. */
export function has(stack: Stack, made: Made, asked: { id: string; after: string; deed: Deed }): Promise<Done> {
  return patiently(stack, made, { method: 'POST', body: JSON.stringify(asked) }) as Promise<Done>; // our own program's answer
}

export function tells(stack: Stack, made: Made): Promise<Told> {
  return patiently(stack, made, { method: 'GET' }) as Promise<Told>; // our own program's answer
}

async function patiently(
  stack: Stack,
  made: Made,
  options: { method: 'GET' | 'POST'; body?: string },
): Promise<unknown> {
  let answer: unknown;
  let said = '';
  const isAnswered = async () => {
    try {
      const { statusCode, body } = await request(`${made.url}/port/3000/`, {
        ...options,
        dispatcher: patient,
        headers: stack.headers,
        signal: AbortSignal.timeout(TRY_MS),
      });
      said = `${statusCode}: ${await body.text()}`;
      if (statusCode === 404 || statusCode === 410) throw new Lost(`${made.name} is gone: ${said}`);
      if (statusCode === 502) await expectNotLost(stack, made);
      if (statusCode !== 200) return false;
      answer = JSON.parse(said.slice('200: '.length));
      return true;
    } catch (error) {
      if (error instanceof Lost || error instanceof Announced) throw error;
      said = String(error); // broken off: asked again, until the deadline
      return false;
    }
  };
  await until(`${made.name} answers`, PATIENCE_MS, isAnswered, () => said);
  return answer;
}

/** Nobody listens there: it may have come back with its files alone. */
async function expectNotLost(stack: Stack, { name }: Made): Promise<void> {
  const report = await reportOf(stack, name).catch(() => undefined); // its node may be on its way back
  if (report?.lost?.to === 'files')
    throw new Announced(`${name} came back with its files alone: ${report.lost.reason}`);
}
