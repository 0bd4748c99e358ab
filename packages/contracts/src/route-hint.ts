/** Where a ready sandbox is, as the scheduler leaves it on the bus for gateways that cannot ask the database. It may be stale: its node then says so. */
import { Route, type Sandbox } from './sandbox.ts';

export function routeHintKey({ workspace, name }: Pick<Sandbox, 'workspace' | 'name'>): string {
  return `route.${workspace}.${name}`;
}

export function writeRouteHint(route: Route): string {
  return JSON.stringify(route);
}

/** Undefined for what is no route: a hint of another version is no hint. */
export function readRouteHint(text: string | undefined): Route | undefined {
  if (text === undefined) return undefined;
  try {
    return Route.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined; // not even JSON
  }
}
