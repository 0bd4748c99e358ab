import type { Wire } from '@torpor/bus';
import type { Route, Sandbox } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { SchedulerEvents } from './events.ts';

/** Tells the bus where sandboxes are. Hints only: whoever uses one is told by the node when it is stale. */
export class RouteHints {
  readonly #wire: Wire;
  readonly #events: SchedulerEvents;

  constructor(wire: Wire, events: SchedulerEvents) {
    this.#wire = wire;
    this.#events = events;
  }

  tell(sandbox: Sandbox, route: Route): void {
    this.#wire.hints
      .put(keyOf(sandbox), JSON.stringify(route))
      .catch((error: unknown) => this.#events.trouble('route hint', explain(error)));
  }

  drop(sandbox: Sandbox): void {
    this.#wire.hints.drop(keyOf(sandbox)).catch((error: unknown) => this.#events.trouble('route hint', explain(error)));
  }
}

function keyOf({ workspace, name }: Sandbox): string {
  return `route.${workspace}.${name}`;
}
