export * from './call.ts';
export * from './calls.ts';
export * from './data-plane.ts';
export * from './failures.ts';
export * from './ids.ts';
export * from './plain-words.ts';
export * from './receipt.ts';
export * from './sandbox.ts';
