import type { SandboxAsk } from '@torpor/contracts';

/** Whether a workspace may have one more. The place where limits join; none is set by default. */
export interface Quotas {
  mayCreate(ask: SandboxAsk): Promise<{ kind: 'granted' } | { kind: 'refused'; reason: string }>;
}

export const unlimited: Quotas = { mayCreate: async () => ({ kind: 'granted' }) };
