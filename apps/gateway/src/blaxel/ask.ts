import type { BlaxelVersion } from '@torpor/dialects';
import type { Parsed } from '@torpor/dialects';
import type { Action } from '@torpor/policy';
import type { Caller } from '../callers/admission.ts';
import type { Exchange } from '../front/exchange.ts';

/** One request to the control plane, admitted. */
export interface ControlAsk {
  readonly exchange: Exchange;
  readonly caller: Caller;
  readonly version: BlaxelVersion;
  /** What stands in the places of the pattern, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  json(): Promise<unknown>;
}

/** 200 with this body, unless it says otherwise. */
export type Handler = (ask: ControlAsk) => Promise<unknown>;

export interface Row {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Such as `/sandboxes/:name`. */
  readonly pattern: string;
  readonly action: Action;
  /** How it stands in the audit log; absent for what changes nothing. */
  readonly audit?: string;
  /** Refusals in the shape of sandbox creation. */
  readonly refusesAs?: 'creation';
  readonly handle: Handler;
}

/** A refusal that the dialect has already put into words. */
export class Refused extends Error {
  readonly refusal: Extract<Parsed<never>, { ok: false }>['refusal'];
  /** For the audit log. */
  readonly outcome: string;

  constructor(refusal: Refused['refusal']) {
    super('refused');
    this.refusal = refusal;
    this.outcome = `refused with ${refusal.status}`;
  }
}

/** The value, or the refusal thrown. */
export function need<T>(parsed: Parsed<T>): T {
  if (parsed.ok) return parsed.value;
  throw new Refused(parsed.refusal);
}
