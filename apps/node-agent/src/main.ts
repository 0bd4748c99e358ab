import { readRoomConfig, NodeAgentConfig, NodeAgentSecrets } from '@torpor/config';
import { startRoom } from './start.ts';

const room = await startRoom(readRoomConfig({ config: NodeAgentConfig, secrets: NodeAgentSecrets }), process.env);
const end = (work: Promise<void>) =>
  work.then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void end(room.close()));
// The whole stack goes down: the sandboxes are put to sleep first.
process.once('SIGUSR2', () => void end(room.rest()));
