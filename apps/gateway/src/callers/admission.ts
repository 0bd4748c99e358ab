/** The gate: who sends this request, and may they? Everything behind it is given a `Caller` and asks no more. Whom it refuses, the audit log tells. */
import type { IncomingHttpHeaders } from 'node:http';
import type { WorkspaceName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { may, type Action } from '@torpor/policy';
import type { ApiKey } from '@torpor/store';
import type { Audit } from '../control/audit.ts';
import { credentialOf } from './credential.ts';
import type { Keyring } from './keyring.ts';

export interface Caller {
  readonly key: ApiKey;
  readonly workspace: WorkspaceName;
}

export interface Admission {
  /** Rejects with `unauthenticated` when the key is missing or bad. */
  identify(headers: IncomingHttpHeaders): Promise<ApiKey>;
  /** Throws `forbidden` unless the key may. */
  demand(key: ApiKey, action: Action, workspace: WorkspaceName): void;
  /** Rejects with `unauthenticated` or `forbidden`. */
  admit(headers: IncomingHttpHeaders, workspace: WorkspaceName, action: Action): Promise<Caller>;
}

export function openAdmission({ keyring, audit }: { keyring: Keyring; audit: Audit }): Admission {
  async function identify(headers: IncomingHttpHeaders): Promise<ApiKey> {
    const credential = credentialOf(headers);
    switch (credential.kind) {
      case 'none':
        throw unknown(
          'no API key was sent; send "X-Blaxel-Authorization: Bearer <api key>" or "Authorization: Bearer <api key>"',
          { missing: true },
        );
      case 'unreadable':
        throw unknown(credential.why);
      case 'token': {
        const verdict = await keyring.verify(credential.token);
        if (verdict.kind === 'good') return verdict.key;
        throw unknown(`this API key is ${verdict.why}`);
      }
    }
  }

  function unknown(why: string, details?: Record<string, unknown>): Failure {
    audit.note({ actor: 'nobody', action: 'key.use', outcome: 'unauthenticated', details: { why } });
    return new Failure('unauthenticated', why, details && { details });
  }

  /** Filed under the key's own workspace: nobody writes into the log of another. */
  function demand(key: ApiKey, action: Action, workspace: WorkspaceName): void {
    const verdict = may(key, action, { workspace });
    if (verdict.kind === 'allowed') return;
    const { subject: actor, prefix } = key;
    const of = key.workspace === undefined ? {} : { workspace: key.workspace };
    audit.note({ ...of, actor, action, outcome: 'forbidden', details: { key: prefix } });
    throw new Failure('forbidden', verdict.reason);
  }

  return {
    identify,
    demand,
    async admit(headers, workspace, action) {
      const key = await identify(headers);
      demand(key, action, workspace);
      return { key, workspace };
    },
  };
}
