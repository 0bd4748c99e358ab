/** For tests: a forwarder at a port that nobody has. The host gives one that is free for UDP; on a busy host it may be taken for TCP, and is then given back for another. */
import { forwardNames, type Forwarder, type ForwarderOptions } from './forwarder.ts';

const TRIES = 20;

export async function forwardAtFreePort(options: Omit<ForwarderOptions, 'port'>): Promise<Forwarder> {
  for (let tried = 1; ; tried++) {
    try {
      return await forwardNames({ ...options, port: 0 });
    } catch (error) {
      if (tried === TRIES || !(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
    }
  }
}
