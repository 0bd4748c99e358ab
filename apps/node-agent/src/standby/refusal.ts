import type { SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { reported, type StandbyState } from '@torpor/policy';
import type { Claim } from '../journal/index.ts';

/** Why a request is not let in, as its caller is told. */
export function refusalOf(claim: Claim, state: StandbyState, reason: string | undefined): Failure {
  const { instanceId, name } = claim;
  switch (reported(state)) {
    case 'failed':
      return new Failure('gone', failed(name, reason), { details: { instanceId, reason } });
    case 'deleting':
    case 'deleted':
      return new Failure('gone', `sandbox "${name}" has ended`, { details: { instanceId, reason } });
    case 'creating':
    case 'running':
    case 'pausing':
    case 'paused':
    case 'lean':
    case 'waking':
    case 'storing':
    case 'stored':
    case 'restoring':
      return new Failure('unavailable', `sandbox "${name}" cannot be woken now: ${hindrance(state, reason)}`, {
        retryable: true,
        retryAfterS: 2,
        details: { instanceId },
      });
  }
}

/** Of one that has left for another node: whoever asks reads where it lives now. */
export function misdirected({ instanceId, generation, name }: Claim): Failure {
  return new Failure('misdirected', `sandbox "${name}" has left this node`, {
    retryable: true,
    details: { instanceId, knows: { generation, state: 'left' } },
  });
}

function failed(name: SandboxName, reason = 'no reason is known'): string {
  return `sandbox "${name}" has failed: ${reason}. Delete it and create another.`;
}

function hindrance(state: StandbyState, reason: string | undefined): string {
  const fenced = state.startsWith('fenc') || state.endsWith('-fenced');
  return fenced ? "this node's lease has ended" : (reason ?? 'it was put to sleep');
}
