export { expiryOf, type Expiring, type ExpiryCause, type Life } from './expiry.ts';
export {
  KEY_PREFIX_LENGTH,
  KEY_SECRET_LENGTH,
  readApiKey,
  writeApiKey,
  type ApiKeyText,
} from './access/api-key.ts';
export { ACTIONS, may, readScope, type Action, type Role, type Scope, type Subject, type Verdict } from './access/may.ts';
