export { nodeAgent, type NodeAgent, type NodeAgentOptions } from './node-agent.ts';
export { NodeKey } from './images/node-key.ts';
export { memoryNote, type Note } from './note.ts';
export { MemoryJournalStore, type JournalStore } from './journal/index.ts';
