import { describeWire } from './conformance.ts';
import { MemoryBus } from './memory-wire.ts';

describeWire('the memory wire', async () => {
  const bus = new MemoryBus();
  return { asking: bus.as('gateway'), serving: bus.as('scheduler'), node: bus.as('node-a'), close: async () => {} };
});
