import { InvalidArgumentError, type Command } from 'commander';
import { using, type Client } from '../client/client.ts';
import { inUnits } from '../client/copy-progress.ts';
import { rows } from '../client/details.ts';
import { print } from './sandbox.ts';

type Stats = Awaited<ReturnType<Client['api']['stats']['query']>>;

const HOUR_MS = 3_600_000;

export function addStatsCommand(torpor: Command): void {
  torpor
    .command('stats')
    .description('what the sandboxes of the workspace used, and how many of their wakes did not bring back everything')
    .option('--hours <n>', 'over the last so many hours', hours, 24)
    .option('--json', 'for programs')
    .action(async (options: { hours: number; json?: boolean }) => {
      const stats = await using((client) => client.api.stats.query({ spanMs: options.hours * HOUR_MS }));
      print(options.json, stats, () => inWords(stats, options.hours));
    });
}

export function inWords({ sandboxes, usage, wakes }: Stats, spanHours: number): string {
  const gibHours = (mibMs: number) => `${(mibMs / 1024 / HOUR_MS).toFixed(2)} GiB-hours`;
  return rows([
    ['sandboxes', `${sandboxes.living}: ${sandboxes.running} running, ${sandboxes.asleep} asleep`],
    ['in the last', `${spanHours} h, as far as it is booked`],
    ['wakes', String(wakes.all)],
    ['lost state', wakes.all === 0 ? 'no wakes, so none' : `${wakes.lost} of ${wakes.all} (${share(wakes)})`],
    [
      'running',
      `${inHours(usage.runningMs)}, asleep in RAM ${inHours(usage.pausedMs)}, paged out ${inHours(usage.leanMs)}, stored ${inHours(usage.storedMs)}`,
    ],
    ['CPU', inHours(usage.cpuMs)],
    ['memory', gibHours(usage.memoryMibMs)],
    ['disk', gibHours(usage.diskMibMs)],
    ['sent out', inUnits(usage.egressBytes)],
  ]);
}

function share({ all, lost }: Stats['wakes']): string {
  return `${((100 * lost) / all).toFixed(lost === 0 ? 0 : 4)} %`;
}

function inHours(ms: number): string {
  return `${(ms / HOUR_MS).toFixed(3)} h`;
}

function hours(text: string): number {
  const n = Number(text);
  if (!(n > 0 && n <= 8_784)) throw new InvalidArgumentError('expected a number of hours, at most 8784 (366 days)');
  return n;
}
