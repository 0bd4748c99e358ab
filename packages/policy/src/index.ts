export { expiryOf, type Expiring, type ExpiryCause, type Life } from './expiry.ts';
