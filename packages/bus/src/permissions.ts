/**
 * What each room may say and hear on NATS. The supervisor writes it into the server's configuration; the server refuses everything else,
 * on loopback too. Hints live in JetStream, hence its API subjects. Answers need no permission of their own (`allow_responses`), but the pulse of a
 * long call does: it is more than one message.
 */
export type RoomName = 'gateway' | 'scheduler' | 'node' | 'observer';

const READ_HINTS = [
  '$JS.API.INFO',
  '$JS.API.STREAM.INFO.KV_hints',
  '$JS.API.DIRECT.GET.KV_hints.>',
  '$JS.API.STREAM.MSG.GET.KV_hints',
];
/** The scheduler's alone: whoever writes a hint says where a tenant's requests go. */
const WRITE_HINTS = ['$JS.API.STREAM.CREATE.KV_hints', '$KV.hints.>'];

export function roomPermissions(
  room: RoomName,
  user: string,
  nodeId?: string,
): { publish: string[]; subscribe: string[] } {
  const inbox = `_INBOX.${user}.>`;
  switch (room) {
    case 'gateway':
      return {
        publish: [
          'scheduler.sandbox.>',
          'scheduler.node.drain.v1',
          'scheduler.node.progress.v1',
          'scheduler.volume.>',
          'node.*.instance.pause.v1',
          'node.*.instance.resume.v1',
          'node.*.instance.lean.v1',
          'node.*.instance.store.v1',
          'node.*.instance.describe.v1',
          'node.*.instance.receipts.v1',
          'node.*.instance.history.v1',
          'node.*.receipt-key.v1',
          'node.*.snapshot.list.v1',
          'node.*.files.compare.v1',
          'node.*.files.merge.v1',
          'node.*.volume.describe.v1',
          'events.key.>',
          ...READ_HINTS,
        ],
        subscribe: [inbox, 'events.>'],
      };
    case 'scheduler':
      return {
        publish: ['node.>', '_INBOX.*.pulse.>', 'events.sandbox.>', ...READ_HINTS, ...WRITE_HINTS],
        subscribe: [inbox, 'scheduler.>', 'events.>'],
      };
    case 'node': {
      if (nodeId === undefined) throw new Error('a node speaks under its own id');
      return {
        publish: ['scheduler.node.heartbeat.v1', 'scheduler.usage.book.v1', 'events.instance.v1', '_INBOX.*.pulse.>'],
        subscribe: [inbox, `node.${nodeId}.>`],
      };
    }
    case 'observer':
      return { publish: [], subscribe: [inbox, 'events.>'] };
  }
}
