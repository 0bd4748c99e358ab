import type { InstanceFacts } from '@torpor/runtime';

const WORDS_MAX = 200;

/**
 * Whether what ran inside has brought its end about. Then its files are what it made of them, and its memory is what it died of: it goes on from the former.
 */
export function endedOfItself({ death, oomKills = 0 }: InstanceFacts): boolean {
  switch (death?.cause) {
    case 'memory':
    case 'pids':
    case 'exited':
      return true;
    case 'signalled':
    case 'killed':
    case 'crashed':
      return false;
    default:
      return oomKills > 0;
  }
}

/** Why an instance that is no more has ended, as far as the host can tell: a reason for people, without a full stop. */
export function howItEnded({ death, oomKills = 0 }: InstanceFacts): string {
  switch (death?.cause) {
    case 'memory':
      return 'its process was killed for want of memory';
    case 'pids':
      return 'it reached its limit of processes and threads, without which gVisor cannot go on';
    case 'exited':
      return `its first process ended by itself with exit code ${death.exitCode ?? 'unknown'}`;
    case 'signalled':
      return `signal ${death.signal ?? 'unknown'} ended it, which nobody of ours had sent`;
    case 'killed':
      return 'the host was told to kill it';
    case 'crashed':
      return `gVisor gave up${death.said ? `, saying "${death.said.slice(0, WORDS_MAX)}"` : ''}`;
    default:
      return oomKills > 0 ? 'its process was killed for want of memory' : 'its process is gone';
  }
}
