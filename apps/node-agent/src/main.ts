import { readRoomConfig, NodeAgentConfig, NodeAgentSecrets } from '@torpor/config';
import { startRoom } from './start.ts';

const room = await startRoom(readRoomConfig({ config: NodeAgentConfig, secrets: NodeAgentSecrets }), process.env);
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    room.close().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
}
