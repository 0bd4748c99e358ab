/** What a tenant tries, as Python programs that read JSON and print JSON. The same text runs inside a sandbox and, as its control, outside. */

export type Target = readonly [kind: 'tcp' | 'name', host: string, port: number];

/**
 * `{targets, withinS}` to what became of each: `open`, `answered`, `silent`, or the name of the error. All at once, until the last has answered or the
 * time is over. `tcp` connects; `name` asks a DNS question over UDP.
 */
export const REACH = `
import errno, json, os, select, socket, sys, time
question = bytes.fromhex("7a7a01000001000000000000") + b"\\x04pypi\\x03org\\x00\\x00\\x01\\x00\\x01"
results, waiting = {}, {}
poll = select.poll()
asked = json.load(sys.stdin)
for kind, host, port in asked["targets"]:
    key = f"{kind} {host} {port}"
    try:
        where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
        s = socket.socket(where[0], where[1]); s.setblocking(False)
        s.connect_ex(where[4]) if kind == "tcp" else (s.connect(where[4]), s.send(question))
        waiting[s.fileno()] = (key, kind, s)
        poll.register(s, select.POLLOUT if kind == "tcp" else select.POLLIN)
    except OSError as e:
        results[key] = errno.errorcode.get(e.errno, str(e))
end = time.time() + asked["withinS"]
while waiting and time.time() < end:
    for fd, _ in poll.poll(100):
        key, kind, s = waiting.pop(fd); poll.unregister(fd)
        error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error == 0 and kind == "tcp":
            try: s.getpeername()
            except OSError as e: error = e.errno
        if error == 0 and kind == "name":
            try: s.recv(4096)
            except OSError as e: error = e.errno
        results[key] = errno.errorcode[error] if error else ("open" if kind == "tcp" else "answered")
        s.close()
for key, _, s in waiting.values(): results[key] = "silent"; s.close()
print(json.dumps(results))
`;

/** Ways to send from an address that is not one's own, and what became of each: `possible` or the error. */
export const FORGE = `
import errno, fcntl, json, socket, struct, sys
other = json.load(sys.stdin)
def attempt(f):
    try: f(); return "possible"
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
def raw(): socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def packet(): socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
def transparent():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_IP, 19, 1); s.bind((other, 0))
def adopt():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    body = struct.pack("BBBBI", socket.AF_INET, 32, 0, 0, socket.if_nametoindex("eth0")) + b"".join(struct.pack("HH", 8, t) + socket.inet_aton(other) for t in (1, 2))
    s.send(struct.pack("IHHII", 16 + len(body), 20, 5 | 0x100, 1, 0) + body)
    code = struct.unpack("i", s.recv(4096)[16:20])[0]
    if code: raise OSError(-code, "netlink")
print(json.dumps({"raw": attempt(raw), "packet": attempt(packet), "transparent": attempt(transparent), "adopt": attempt(adopt)}))
`;

/** Sends one UDP datagram as a frame of one's own making; needs what no sandbox has. Input: device, gateway's MAC, source, target, port, word. */
export const FRAME = `
import json, socket, struct, sys
device, mac, source, target, port, word = json.load(sys.stdin)
def summed(b):
    n = sum(struct.unpack(f"!{len(b)//2}H", b)); n = (n >> 16) + (n & 0xffff); return ~(n + (n >> 16)) & 0xffff
data = word.encode()
udp = struct.pack("!HHHH", 40000, port, 8 + len(data), 0) + data
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
head = head[:10] + struct.pack("!H", summed(head)) + head[12:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)); s.bind((device, 0))
own = s.getsockname()[4]
for _ in range(3): s.send(bytes.fromhex(mac.replace(":", "")) + own + b"\\x08\\x00" + head + udp)
print("null")
`;
