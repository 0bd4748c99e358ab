/** What the demo leaves running: 32 MiB of random memory, a counter that ticks, an open file, a child, and a server that tells of all of them. */
export const COUNTER_PROGRAM = `
import hashlib, http.server, json, os, subprocess, threading, time
memory = os.urandom(32 << 20)
state = {"count": 0}
log = open("/tmp/ticks.log", "w")
child = subprocess.Popen(["sleep", "100000"])
def tick():
    while True:
        state["count"] += 1
        log.write("%d\\n" % state["count"]); log.flush()
        time.sleep(0.05)
threading.Thread(target=tick, daemon=True).start()
class Tell(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid(), "child": child.pid, "childAlive": child.poll() is None,
            "memory": hashlib.sha256(memory).hexdigest(), "count": state["count"], "offset": log.tell()}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 3000), Tell).serve_forever()
`;

/** What the program's server answers. */
export interface Told {
  readonly pid: number;
  readonly child: number;
  readonly childAlive: boolean;
  /** sha256 of its memory. */
  readonly memory: string;
  readonly count: number;
  readonly offset: number;
}
