/**
 * What sleeping costs. Prices are of whatever currency the operator thinks in. The defaults are of the order of public list prices for containers and block
 * storage (a GiB of RAM 0.005 an hour, a GiB of disk 0.08 a month, a core 0.04 an hour): what matters to a choice is only how they stand to each other.
 */

export interface Prices {
  /** Of one GiB for one hour. */
  readonly ramGibHour: number;
  readonly diskGibHour: number;
  /** Of one core for one hour. */
  readonly cpuHour: number;
}

export const DEFAULT_PRICES: Prices = { ramGibHour: 0.005, diskGibHour: 0.00011, cpuHour: 0.04 };

const HOUR_MS = 3_600_000;
const GIB = 2 ** 30;

/** What a sandbox keeps of the host while it sleeps. */
export interface Holds {
  readonly ramBytes: number;
  readonly diskBytes: number;
}

export function costPerHour({ ramBytes, diskBytes }: Holds, prices: Prices): number {
  return (ramBytes * prices.ramGibHour + diskBytes * prices.diskGibHour) / GIB;
}

export function costPerMs(holds: Holds, prices: Prices): number {
  return costPerHour(holds, prices) / HOUR_MS;
}

/** Of one core that works for so long. */
export function costOfWork(ms: number, prices: Prices): number {
  return (ms * prices.cpuHour) / HOUR_MS;
}
