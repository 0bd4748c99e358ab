export { readRoomConfig } from './read.ts';
export {
  GatewayConfig,
  GatewaySecrets,
  NodeAgentConfig,
  NodeAgentSecrets,
  SchedulerConfig,
  SchedulerSecrets,
} from './rooms.ts';
