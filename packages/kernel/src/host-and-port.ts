import { isIPv6 } from 'node:net';

/** Reads `host:port`, `[v6]:port`, or a host alone, which then has the given port. */
export function hostAndPort(text: string, portDefault: number): { readonly host: string; readonly port: number } {
  if (isIPv6(text)) return { host: text, port: portDefault };
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:[\]]*))(?::(\d+))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (!host) throw new Error(`"${text}" names no host; expected host, host:port or [address]:port`);
  return { host, port: port === undefined ? portDefault : Number(port) };
}
