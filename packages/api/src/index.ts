export { toTrpcError, viewOf, type FailureView } from './failures.ts';
export { apiRouter, type ApiRouter } from './router.ts';
export type { ApiContext, Services } from './services.ts';
export type * from './shapes.ts';
