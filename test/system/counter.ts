/** A sandbox with something to lose: a program in it that counts its calls in memory only, and knows a word that it made up at its start. */
import { request } from 'undici';
import { createOne, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { patient, type Stack } from '../bench/lib/stack.ts';
import { until } from './until.ts';

const PROGRAM = `
import http.server, json, os, secrets, threading
word, calls, lock = secrets.token_hex(8), 0, threading.Lock()
class Tell(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global calls
        with lock:
            calls += 1
            body = json.dumps({"word": word, "calls": calls, "pid": os.getpid(), "asked": self.path}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Tell).serve_forever()
`;

export interface Told {
  readonly word: string;
  readonly calls: number;
  readonly pid: number;
  /** Path and query as they arrived, so that an answer can be matched with its question. */
  readonly asked: string;
}

export class Counter {
  readonly made: Made;
  readonly stack: Stack;
  #last: Told | undefined;

  private constructor(stack: Stack, made: Made) {
    this.stack = stack;
    this.made = made;
  }

  static async start(
    stack: Stack,
    name: string,
    more: Record<string, unknown> = { idle: { kind: 'never' } },
  ): Promise<Counter> {
    const made = await createOne(stack, name, more);
    await putFile(patient, stack, made, '/blaxel/counter.py', PROGRAM);
    await exec(stack, made, { command: 'python3 /blaxel/counter.py', name: 'counter' });
    const counter = new Counter(stack, made);
    await until(`${name} counts`, 60_000, async () => (await counter.try('/begin')) !== undefined);
    return counter;
  }

  /** Undefined when it was refused; rejects when the sandbox is gone, the answer is somebody else's or memory was lost. */
  async try(question: string, timeoutMs = 20_000): Promise<Told | undefined> {
    const { statusCode, body } = await request(`${this.made.url}/port/3000${question}`, {
      dispatcher: patient,
      headers: this.stack.headers,
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await body.text();
    if (statusCode === 404 || statusCode === 410) throw new Lost(`${this.made.name} is gone: ${text}`);
    if (statusCode !== 200) return undefined;
    return this.#judge(question, JSON.parse(text) as Told); // our own program's answer
  }

  /** Asks until it is answered: what was refused in the middle of a restart is asked again, what hangs is not. */
  async ask(question: string, withinMs: number): Promise<Told> {
    let told: Told | undefined;
    await until(`${this.made.name} answers`, withinMs, async () => {
      told = await this.try(question, withinMs).catch((error: unknown) => {
        if (error instanceof Lost) throw error;
        return undefined; // the connection broke: asked again, until the deadline
      });
      return told !== undefined;
    });
    if (!told) throw new Error('until ended without an answer');
    return told;
  }

  #judge(question: string, told: Told): Told {
    const last = this.#last;
    if (told.asked !== question) throw new Lost(`${this.made.name} was asked ${question} and answered ${told.asked}`);
    if (last && (told.word !== last.word || told.pid !== last.pid)) {
      throw new Lost(`${this.made.name} was ${JSON.stringify(last)} and is ${JSON.stringify(told)}`);
    }
    if (last && told.calls <= last.calls - 64)
      throw new Lost(`${this.made.name} counted ${last.calls}, now ${told.calls}`);
    if (!last || told.calls > last.calls) this.#last = told;
    return told;
  }
}

/** Memory or an answer was lost, or crossed: never to be tried again. */
export class Lost extends Error {}

export async function exec(
  stack: Stack,
  sandbox: { url: string },
  body: Record<string, unknown>,
  timeoutMs = 60_000,
): Promise<Record<string, unknown>> {
  const answer = await request(`${sandbox.url}/process`, {
    dispatcher: patient,
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 200) throw new Error(`process answered ${answer.statusCode}: ${text.slice(0, 300)}`);
  return JSON.parse(text) as Record<string, unknown>; // the dialect's process
}
