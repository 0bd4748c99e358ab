/** The bad luck of one seed: what befalls messages, and when rooms are killed, cut off or slowed down. All of it drawn from the seed's own chance. */
import type { Fates } from '@torpor/bus';
import type { Chance } from '@torpor/kernel';

export interface Trouble {
  readonly fates: Fates;
  /** Rooms that the bus does not reach at present. */
  readonly cutOff: Set<string>;
  /** Whether the last ask of a gateway for a change arrives twice, the second time long after it was answered, perhaps. */
  isDoubled(gateway: string): boolean;
  /** Whether a room dies at this await of it. `weight`: awaits around the record are where it hurts. */
  strikes(weight: number): boolean;
  /** How long a call into the outside takes, ms. */
  latencyMs(): number;
  /** From now on nothing bad happens. */
  end(): void;
}

export function drawTrouble(chance: Chance): Trouble {
  let over = false;
  const cutOff = new Set<string>();
  const doubled = new Set<string>();
  const level = (most: number) => (chance.fraction() < 0.3 ? 0 : chance.fraction() * most);
  const [loss, duplicates, late, kills, slow] = [level(0.06), level(0.1), level(0.05), level(0.008), level(0.01)];
  const hits = (share: number) => !over && chance.fraction() < share;
  const delayMs = () => {
    if (!hits(late)) return chance.fraction() * 3;
    return chance.fraction() * (chance.fraction() < 0.2 ? 40_000 : 4_000);
  };

  return {
    cutOff,
    fates: ({ subject, kind, from }) => {
      const to = /^node\.([^.]+)\./.exec(subject)?.[1];
      const end = kind === 'reply' ? undefined : to;
      if (cutOff.has(from) || (end !== undefined && cutOff.has(end)) || hits(loss)) return { arrivals: [] };
      const twice = hits(duplicates);
      if (kind === 'request' && subject.startsWith('scheduler.sandbox.')) {
        if (twice) doubled.add(from);
        else doubled.delete(from);
      }
      return { arrivals: twice ? [delayMs(), delayMs()] : [delayMs()] };
    },
    isDoubled: (gateway) => doubled.has(gateway),
    strikes: (weight) => hits(kills * weight),
    latencyMs: () => (hits(slow) ? chance.fraction() * 800 : chance.fraction() * 2),
    end: () => {
      over = true;
      cutOff.clear();
    },
  };
}
