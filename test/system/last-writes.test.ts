/**
 * What a program wrote last before its sandbox fell asleep on the disk is there after the second resume and after the tenth: it writes every millisecond,
 * to the root file system, to one in memory and to a volume, here with an fsync and there without, and remembers only what was written.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, deleteMany, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { expectOk, patient, type Stack } from '../bench/lib/stack.ts';
import { start } from './inside.ts';
import { store } from './node-calls.ts';
import { freshName, isFull, testStack } from './test-stack.ts';
import { until } from './until.ts';

const PATIENCE_MS = 60_000;
const RESUMES = isFull ? 10 : 2;
const PROGRAM = `
import http.server, json, os, struct, threading, time
class Log:
    def __init__(self, path, sync):
        self.path, self.sync, self.count, self.lock = path, sync, 0, threading.Lock()
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT)
        threading.Thread(target=self.write, daemon=True).start()
    def write(self):
        while True:
            time.sleep(0.001)
            with self.lock:
                os.write(self.file, struct.pack("q", self.count + 1))
                if self.sync: os.fsync(self.file)
                self.count += 1
    def tell(self):
        with self.lock, open(self.path, "rb") as file:
            found = file.read()
            return {"count": self.count, "isWhole": found == b"".join(struct.pack("q", n + 1) for n in range(self.count))}
logs = {name: Log(path, sync) for name, path, sync in [("disk", "/root/log", False), ("disk, synced", "/root/synced", True),
    ("memory", "/dev/shm/log", False), ("memory, synced", "/dev/shm/synced", True),
    ("volume", "/data/log", False), ("volume, synced", "/data/synced", True)]}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({name: log.tell() for name, log in logs.items()}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Answer).serve_forever()
`;

interface Log {
  /** How many writes it remembers. */
  readonly count: number;
  /** Whether the file holds just these. */
  readonly isWhole: boolean;
}

let stack: Stack;
let sandbox: Made;
const volume = freshName('written');

beforeAll(async () => {
  stack = await testStack();
  await api(stack).volumes.create(volume, { sizeMib: 64 });
  const volumes = [{ name: volume, path: '/data' }];
  sandbox = await createOne(stack, freshName('writer'), { idle: { kind: 'never' }, memoryMib: 512, volumes });
  await putFile(patient, stack, sandbox, '/blaxel/writer.py', PROGRAM);
  await start(stack, sandbox, 'writer', 'python3 /blaxel/writer.py');
  await until('the program listens', PATIENCE_MS, () =>
    told().then(
      () => true,
      () => false,
    ),
  );
});

afterAll(async () => {
  await deleteMany(stack, [sandbox]);
  await api(stack).volumes.delete(volume);
});

async function told(): Promise<Record<string, Log>> {
  const answer = await expectOk(patient, `${sandbox.url}/port/3000/`, { headers: { ...stack.headers } });
  return JSON.parse(answer.body.toString()) as Record<string, Log>; // our own program's answer
}

it(`keeps the last writes, ${RESUMES} times`, async () => {
  let before = await told();
  for (let resume = 1; resume <= RESUMES; resume++) {
    expect(await store(stack, sandbox.name)).toBe('stored');
    const now = await told();
    for (const [name, { count, isWhole }] of Object.entries(now)) {
      expect([resume, name, isWhole]).toEqual([resume, name, true]);
      expect(count, name).toBeGreaterThan(before[name]?.count ?? Infinity);
    }
    before = now;
  }
  expect(Object.keys(before)).toHaveLength(6);
});
