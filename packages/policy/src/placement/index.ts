export { PLACEMENT_RULES, type FleetNode, type PlacementAsk, type PlacementRules } from './fleet-node.ts';
export { isAlive, place, withPlaced, type Placement, type RefusalCause } from './place.ts';
