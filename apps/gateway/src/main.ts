import { openRoom } from './open-room.ts';

const room = await openRoom();
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => void room.close().finally(() => process.exit(0)));
}
