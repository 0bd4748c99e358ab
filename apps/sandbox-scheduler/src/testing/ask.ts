import { SandboxName, WorkspaceName, type SandboxAsk } from '@torpor/contracts';

export const workspace = WorkspaceName.parse('main');
export const name = SandboxName.parse('box');

export function ask(more: Partial<SandboxAsk> = {}): SandboxAsk {
  return {
    workspace,
    name,
    reuse: false,
    template: 'base',
    image: 'blaxel/base-image:latest',
    shape: { memoryMib: 512, cpus: 1, diskMib: 1_024, pids: 256 },
    env: { A: '1' },
    ports: [],
    labels: {},
    idle: { kind: 'after', idleMs: 15_000 },
    expiry: {},
    terminatedRetentionMs: 60_000,
    extra: {},
    createdBy: 'user:ada',
    ...more,
  };
}
