export {
  isAlive,
  place,
  PLACEMENT_RULES,
  withPlaced,
  type FleetNode,
  type Placement,
  type PlacementAsk,
  type PlacementRules,
  type RefusalCause,
} from './place.ts';
