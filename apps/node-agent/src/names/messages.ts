/**
 * What passes for DNS. We read a message's header (RFC 1035 §4.1.1) and, over TCP, the length before it (§4.2.2): enough that an instance can hold no
 * conversation but DNS with whatever listens at a resolver's address. What stands behind a query's header is the instance's own to choose.
 */

const LENGTH_BYTES = 2;
const HEADER_BYTES = 12;

export interface MessageKind {
  readonly bytesMax: number;
  /** Judges the header, which is there whole; what follows it may not be. */
  readonly isHeader: (message: Buffer) => boolean;
}

/** QR clear, opcode QUERY, one question. */
export const QUERY: MessageKind = {
  bytesMax: 4_096,
  isHeader: (message) => (message.readUInt8(2) & 0xf8) === 0 && message.readUInt16BE(4) === 1,
};

/** QR set; no longer than a length of two bytes can say. */
export const ANSWER: MessageKind = {
  bytesMax: 65_535,
  isHeader: (message) => (message.readUInt8(2) & 0x80) !== 0,
};

export function isWhole(kind: MessageKind, message: Buffer): boolean {
  return fits(kind, message.length) && kind.isHeader(message);
}

export function idOf(message: Buffer): number {
  return message.readUInt16BE(0);
}

/** A message as it goes over TCP, behind its length. */
export function withLength(message: Buffer): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/**
 * Cuts a stream into messages. Each chunk gives those that are whole with it, or `undefined` as soon as a length or a header is not of this kind; the
 * stream is then no DNS, and is not to be asked again. No more is held than what one message lacks.
 */
export function cutter(kind: MessageKind): (chunk: Buffer) => readonly Buffer[] | undefined {
  let held: Buffer = Buffer.alloc(0);
  return (chunk) => {
    held = Buffer.concat([held, chunk]);
    const whole: Buffer[] = [];
    while (held.length >= LENGTH_BYTES) {
      const bytes = held.readUInt16BE(0);
      if (!fits(kind, bytes)) return undefined;
      const message = held.subarray(LENGTH_BYTES, LENGTH_BYTES + bytes);
      if (message.length >= HEADER_BYTES && !kind.isHeader(message)) return undefined;
      if (message.length < bytes) break;
      whole.push(message);
      held = held.subarray(LENGTH_BYTES + bytes);
    }
    return whole;
  };
}

function fits(kind: MessageKind, bytes: number): boolean {
  return bytes >= HEADER_BYTES && bytes <= kind.bytesMax;
}
