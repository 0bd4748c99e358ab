/** What the clients were told, and so what must hold in the end. */
import type { InstanceId, Sandbox, SandboxName } from '@torpor/contracts';

export interface AnsweredCreate {
  readonly sandbox: Sandbox;
  readonly askedAtMs: number;
}

/** A span of time in which something may have befallen every sandbox of a name. Open ends are Infinity. */
interface Doing {
  readonly name: SandboxName;
  readonly what: 'delete' | 'restart' | 'host fault';
  readonly fromMs: number;
  untilMs: number;
}

export class Ledger {
  readonly creates: AnsweredCreate[] = [];
  /** Creates that were asked for, answered or not. */
  readonly asks: { readonly name: SandboxName; readonly askedAtMs: number }[] = [];
  /** Instances of which a delete was answered, and when. */
  readonly deletedAtMs = new Map<InstanceId, number>();
  /** Files whose writing was answered, per incarnation. */
  readonly files = new Map<string, { path: string; text: string }[]>();
  readonly #doings: Doing[] = [];
  readonly #lostRamAtMs = new Map<string, number>();

  begins(doing: Omit<Doing, 'untilMs'>): Doing {
    const open = { ...doing, untilMs: Infinity };
    this.#doings.push(open);
    return open;
  }

  /** Whether such a thing may have befallen the sandbox since it was asked for. */
  mayHave(what: Doing['what'], create: AnsweredCreate): boolean {
    return this.#doings.some(
      (doing) => doing.what === what && doing.name === create.sandbox.name && doing.untilMs >= create.askedAtMs,
    );
  }

  /** Whether somebody asked for one of the name afterwards, who may have replaced it if it had failed. */
  wasAskedAgain({ sandbox, askedAtMs }: AnsweredCreate): boolean {
    return this.asks.some((ask) => ask.name === sandbox.name && ask.askedAtMs > askedAtMs);
  }

  /** What an incarnation had in RAM is gone with its process, by the host's fault: it comes back to what was stored, and says so. */
  lostRam(incarnation: string, atMs: number): void {
    this.#lostRamAtMs.set(incarnation, atMs);
    this.files.delete(incarnation);
  }

  /** `sinceMs`: when its writing began. */
  wrote(incarnation: string, file: { path: string; text: string }, sinceMs: number): void {
    if ((this.#lostRamAtMs.get(incarnation) ?? -Infinity) >= sinceMs) return;
    this.files.set(incarnation, [...(this.files.get(incarnation) ?? []), file]);
  }
}
