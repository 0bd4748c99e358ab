export { readRoomConfig } from './read.ts';
export {
  defaultPools,
  GatewayConfig,
  GatewaySecrets,
  NodeAgentConfig,
  NodeAgentSecrets,
  SchedulerConfig,
  SchedulerSecrets,
} from './rooms.ts';
