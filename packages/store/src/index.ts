export {
  checkKey,
  endOfKey,
  hashOfSecret,
  mintKey,
  readKey,
  tokenOpens,
  type ApiKey,
  type KeyVerdict,
  type NewApiKey,
  type StoredApiKey,
} from './keys.ts';
export { aesSealing, type SealedPlace, type Sealing } from './sealing.ts';
export type * from './store.ts';
export { memoryStore } from './memory/memory-store.ts';
export { migrationNames } from './pg/migrations.ts';
export { pgStore, type PgStoreOptions } from './pg/pg-store.ts';
