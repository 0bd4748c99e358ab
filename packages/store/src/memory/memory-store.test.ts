import { describeStore } from '../conformance.ts';
import { memoryStore } from './memory-store.ts';

describeStore('the store in memory', async () => memoryStore());
