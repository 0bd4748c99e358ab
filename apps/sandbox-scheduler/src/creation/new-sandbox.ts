import { Generation, newInstanceId, SandboxName, type NodeId, type Sandbox, type SandboxAsk } from '@torpor/contracts';
import { randomWord, type Chance } from '@torpor/kernel';

/** The row that a lawful ask becomes. */
export function newSandbox(
  ask: SandboxAsk & { name: SandboxName },
  at: { nodeId: NodeId; nowMs: number; chance: Chance },
): Sandbox {
  const { reuse: _reuse, volumes: _volumes, env, ...wanted } = ask;
  return {
    ...wanted,
    instanceId: newInstanceId(at.chance),
    generation: Generation.parse(1),
    nodeId: at.nodeId,
    phase: 'creating',
    envNames: Object.keys(env).sort(),
    createdAtMs: at.nowMs,
    updatedAtMs: at.nowMs,
    lastUsedAtMs: at.nowMs,
  };
}

export function freshName(chance: Chance): SandboxName {
  return SandboxName.parse(`sandbox-${randomWord(chance, 8)}`);
}

export function nextGeneration(sandbox: Sandbox): Generation {
  return Generation.parse(sandbox.generation + 1);
}
