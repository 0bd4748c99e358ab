export { expiryOf, type Expiring, type ExpiryCause, type Life } from './expiry.ts';
export {
  ACTIONS,
  may,
  mayGrant,
  readScope,
  type Action,
  type Role,
  type Scope,
  type Subject,
  type Verdict,
} from './access/may.ts';
export * from './standby/index.ts';
export * from './placement/index.ts';
export * from './receipts/index.ts';
export * from './volumes/index.ts';
