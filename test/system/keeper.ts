/** A sandbox with something of everything that must not be lost, and a program in it that tells what it has. */
import { expect } from 'vitest';
import { putFile, type Made } from '../bench/lib/sandboxes.ts';
import { expectOk, patient, type Stack } from '../bench/lib/stack.ts';
import { Lost } from './counter.ts';
import { start } from './inside.ts';
import { until } from './until.ts';

const PATIENCE_MS = 60_000;
const PROGRAM = '/blaxel/keeper.py';

/**
 * Random memory, a file open at an offset, one open that has no name any more, a child that adds up what it is told, a conversation over a connection
 * within the sandbox, and a tick every 5 ms that appends its number, unsynced, to a file of the disk and to one in memory: the last of them
 * is written within 5 ms before any sleep begins. Where a disk is full, it waits for room.
 */
export const KEEPER = `
import errno, hashlib, http.server, json, os, socket, struct, subprocess, sys, threading, time
sha = lambda data: hashlib.sha256(data).hexdigest()
memory = os.urandom(int(sys.argv[1]) << 20)
held = open("/root/held", "wb+"); held.write(os.urandom(4096)); held.flush(); held.seek(1234)
nameless = open("/root/nameless", "wb+"); os.unlink("/root/nameless"); nameless.write(os.urandom(4096)); nameless.flush()
adder = "import sys; total = 0\\nfor line in sys.stdin: total += int(line); print(total, flush=True)"
child = subprocess.Popen([sys.executable, "-c", adder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
listener = socket.create_server(("127.0.0.1", 0))
def converse():
    other, _ = listener.accept()
    heard = 0
    while other.recv(1): heard += 1; other.sendall(struct.pack("q", heard))
threading.Thread(target=converse, daemon=True).start()
talking = socket.create_connection(listener.getsockname())
LOGS = ["/root/ticks", "/dev/shm/ticks"]
logs = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in LOGS]
ticks, lock = 0, threading.Lock()
def write(log, tick):
    while True:
        try: return os.write(log, tick)
        except OSError as error:
            if error.errno != errno.ENOSPC: raise
            time.sleep(0.005)
def tick():
    global ticks
    while True:
        time.sleep(0.005)
        with lock:
            ticks += 1
            for log in logs: write(log, struct.pack("q", ticks))
threading.Thread(target=tick, daemon=True).start()
def gapless(path):
    with open(path, "rb") as file: return file.read() == b"".join(struct.pack("q", n + 1) for n in range(ticks))
class Tell(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with lock:
            child.stdin.write("1\\n"); child.stdin.flush()
            talking.sendall(b".")
            body = json.dumps({"memory": sha(memory), "offset": held.tell(), "held": sha(os.pread(held.fileno(), 4096, 0)),
                "nameless": sha(os.pread(nameless.fileno(), 4096, 0)), "pid": os.getpid(), "child": child.pid,
                "added": int(child.stdout.readline()), "heard": struct.unpack("q", talking.recv(8))[0],
                "ticks": ticks, "gapless": [gapless(path) for path in LOGS]}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer): request_queue_size = 128
Server(("127.0.0.1", 3000), Tell).serve_forever()
`;

export interface Kept {
  readonly memory: string;
  readonly offset: number;
  readonly held: string;
  readonly nameless: string;
  readonly pid: number;
  readonly child: number;
  /** How often it was asked so far: as its child has added it up, and as it was heard over its own connection. */
  readonly added: number;
  readonly heard: number;
  readonly ticks: number;
  /** Whether every tick is in the file of the disk, and in the one in memory. */
  readonly gapless: readonly [boolean, boolean];
}

/** Starts the program with so much memory, and answers what it has. */
export async function startKeeper(stack: Stack, sandbox: Made, mib: number): Promise<Kept> {
  await putFile(patient, stack, sandbox, PROGRAM, KEEPER);
  await start(stack, sandbox, 'keeper', commandOf(mib));
  return tellPatiently(stack, sandbox);
}

export function commandOf(mib: number): string {
  return `python3 ${PROGRAM} ${mib}`;
}

/** One request, which wakes it. */
export async function tell(stack: Stack, sandbox: Made): Promise<Kept> {
  const answer = await expectOk(patient, `${sandbox.url}/port/3000/`, { headers: { ...stack.headers } });
  return JSON.parse(answer.body.toString()) as Kept; // our own program's answer
}

/** The same, however often it must be asked while processes of the stack come back. What is gone is not asked again. */
export async function tellPatiently(stack: Stack, sandbox: Made): Promise<Kept> {
  let told: Kept | undefined;
  let refusal = '';
  const isTold = async () => {
    told = await tell(stack, sandbox).catch((error: unknown) => {
      refusal = String(error);
      if (/ answered (404|410): /.test(refusal)) throw new Lost(refusal);
      return undefined;
    });
    return told !== undefined;
  };
  await until(`${sandbox.name} tells what it has`, PATIENCE_MS, isTold, () => refusal);
  if (!told) throw new Error('until ended without an answer');
  return told;
}

/** Nothing is lost since `before` was told: every question since then is counted, whether its answer came or not. */
export function expectWhole(before: Kept, after: Kept): void {
  const { added, heard, ticks } = after;
  expect(after).toEqual({ ...before, added, heard, ticks, gapless: [true, true] });
  expect(added).toBeGreaterThan(before.added);
  expect(added - before.added).toBe(heard - before.heard);
  expect(ticks).toBeGreaterThanOrEqual(before.ticks);
}
