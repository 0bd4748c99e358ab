/**
 * The instance port: what the node-agent's standby engine asks of an isolation driver. Every driver passes `conformance.ts`.
 *
 * A driver is mechanism. It offers *steps*, each one verb of hostd or one call to the runtime; the engine decides their order, journals the intent
 * before they run, and carries them out. Creating steps are idempotent, and so are destroying ones: an absent thing is destroyed already.
 */
import type { InstanceId, Isolation, Shape } from '@torpor/contracts';
import type { Guest } from './guest.ts';

/** Proof that the intent to run these steps lies fsynced in the journal. Only the journal makes one. */
export interface Intent {
  readonly instanceId: InstanceId;
  readonly operation: string;
  covers(step: string): boolean;
}

export interface Step {
  /** The verb's name, such as `disk.create`. */
  readonly name: string;
  /** Names of the steps of the same list that must have ended well before; steps that do not wait for each other may run side by side. */
  readonly after: readonly string[];
  run(intent: Intent): Promise<void>;
}

/** What a driver needs to make an instance that has run nothing but the guest. */
export interface InstanceSpec {
  readonly instanceId: InstanceId;
  /** A small number, unique among the node's instances: names and addresses derive from it. */
  readonly slot: number;
  readonly template: string;
  readonly shape: Shape;
  /** Accepted by the guest until the claim. */
  readonly bootToken: string;
}

export interface InstanceHandle {
  readonly instanceId: InstanceId;
  readonly slot: number;
  /** The address that the guest listens on, and its port. */
  readonly host: string;
  readonly port: number;
}

/** What the host says of an instance now. `absent`: nothing of it runs. */
export interface InstanceFacts {
  readonly state: 'absent' | 'starting' | 'running' | 'frozen';
  readonly pid?: number;
  /** Start time of the process in clock ticks: with the pid it names one process for ever. */
  readonly startTicks?: number;
  readonly memoryMib?: number;
  readonly cpuUsageNs?: number;
  /** How often the kernel killed something of it for want of memory. */
  readonly oomKills?: number;
  /** What is known of its end, while the host still knows. */
  readonly death?: Death;
}

/** How an instance ended (packages/hostd/PROTOCOL.md, "How a sandbox died"). */
export interface Death {
  /** One of hostd's causes; a later hostd may know more of them. */
  readonly cause: string;
  readonly exitCode?: number;
  /** Its number. */
  readonly signal?: number;
  /** The isolation's last words. A tenant may have a hand in them: text for people, nothing to decide by. */
  readonly said?: string;
}

export interface InstanceUsage {
  readonly memoryMib: number;
  readonly cpuUsageNs: number;
  readonly txBytes: number;
  readonly rxBytes: number;
  readonly diskMib?: number;
}

export interface DriverCapacity {
  readonly memoryMib: number;
  readonly memoryFreeMib: number;
  /** All that disks may take together. */
  readonly diskMib: number;
  readonly diskFreeMib: number;
}

export interface InstanceDriver {
  readonly name: string;
  readonly isolation: Isolation;
  /** Templates that instances can be made from, by name and alias. */
  readonly templates: readonly string[];
  /** Names the isolation, the guest and the templates that instances are made of now; equal names, equal makes. Known once `prepare` has ended. */
  readonly build: string;
  /** Makes ready what the node shares: pool of disks, network table. Twice is once. */
  prepare(): Promise<void>;
  /** The steps that make the instance; after the last one the guest answers with the boot token. */
  createSteps(spec: InstanceSpec): readonly Step[];
  /** The steps that leave nothing of it. */
  destroySteps(instance: { instanceId: InstanceId; slot: number }): readonly Step[];
  handle(spec: { instanceId: InstanceId; slot: number }): InstanceHandle;
  /** Stops all its tasks and timers; answers when the kernel says so. No CPU is used from then on. */
  pause(instanceId: InstanceId): Promise<{ tookMs: number }>;
  /** Undoes `pause`. Resuming a running instance changes nothing. */
  resume(instanceId: InstanceId): Promise<{ tookMs: number }>;
  inspect(instanceId: InstanceId): Promise<InstanceFacts>;
  usage(instanceIds: readonly InstanceId[]): Promise<ReadonlyMap<InstanceId, InstanceUsage>>;
  /** Every instance of which anything exists on the host, and the slots in use. */
  inventory(): Promise<{ instanceIds: readonly InstanceId[]; slots: readonly number[] }>;
  capacity(): Promise<DriverCapacity>;
  /** Speaks to the guest of a running instance. The caller closes it. It connects with the first call and may be kept over pause and resume. */
  guest(handle: InstanceHandle, token: string): Guest;
  /** Lets go of the host. Instances and guests live on. */
  close(): void;
}
