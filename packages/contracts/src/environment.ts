/** What the names and values of a sandbox's environment may weigh together, in bytes: it travels on the bus whole, escaped, in one message. */
export const ENV_BYTES_MAX = 256 * 1024;

export function envBytes(pairs: readonly (readonly [name: string, value: string])[]): number {
  return pairs.reduce((sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value), 0);
}
