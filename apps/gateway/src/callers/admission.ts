/** The gate: who sends this request, and may they? Everything behind it is given a `Caller` and asks no more. */
import type { IncomingHttpHeaders } from 'node:http';
import type { WorkspaceName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { may, type Action } from '@torpor/policy';
import type { ApiKey } from '@torpor/store';
import { credentialOf } from './credential.ts';
import type { Keyring } from './keyring.ts';

export interface Caller {
  readonly key: ApiKey;
  readonly workspace: WorkspaceName;
}

export interface Admission {
  /** Rejects with `unauthenticated` when the key is missing or bad. */
  identify(headers: IncomingHttpHeaders): Promise<ApiKey>;
  /** Rejects with `unauthenticated` or `forbidden`. */
  admit(headers: IncomingHttpHeaders, workspace: WorkspaceName, action: Action): Promise<Caller>;
}

export function openAdmission(keyring: Keyring): Admission {
  async function identify(headers: IncomingHttpHeaders): Promise<ApiKey> {
    const credential = credentialOf(headers);
    switch (credential.kind) {
      case 'none':
        throw new Failure(
          'unauthenticated',
          'no API key was sent; send "X-Blaxel-Authorization: Bearer <api key>" or "Authorization: Bearer <api key>"',
          { details: { missing: true } },
        );
      case 'unreadable':
        throw new Failure('unauthenticated', credential.why);
      case 'token': {
        const verdict = await keyring.verify(credential.token);
        if (verdict.kind === 'good') return verdict.key;
        throw new Failure('unauthenticated', `this API key is ${verdict.why}`);
      }
    }
  }
  return {
    identify,
    async admit(headers, workspace, action) {
      const key = await identify(headers);
      demand(key, action, workspace);
      return { key, workspace };
    },
  };
}

/** Throws `forbidden` unless the key may. */
export function demand(key: ApiKey, action: Action, workspace: WorkspaceName): void {
  const verdict = may(key, action, { workspace });
  if (verdict.kind === 'refused') throw new Failure('forbidden', verdict.reason);
}
