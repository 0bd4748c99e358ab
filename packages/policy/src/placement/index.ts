export { PLACEMENT_RULES, type FleetNode, type PlacementAsk, type PlacementRules } from './fleet-node.ts';
export { missingAt } from './make.ts';
export { isAlive, place, withPlaced, type Placement, type RefusalCause } from './place.ts';
