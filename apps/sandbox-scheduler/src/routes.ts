import type { Wire } from '@torpor/bus';
import { routeHintKey, writeRouteHint, type Route, type Sandbox } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { SchedulerEvents } from './events.ts';

/** Tells the bus where sandboxes are, for gateways while the database is away. Hints only: whoever uses one is told by the node when it is stale. */
export class RouteHints {
  readonly #wire: Wire;
  readonly #events: SchedulerEvents;

  constructor(wire: Wire, events: SchedulerEvents) {
    this.#wire = wire;
    this.#events = events;
  }

  tell(sandbox: Sandbox, route: Route): void {
    this.#wire.hints
      .put(routeHintKey(sandbox), writeRouteHint(route))
      .catch((error: unknown) => this.#events.trouble('route hint', explain(error)));
  }

  drop(sandbox: Sandbox): void {
    this.#wire.hints
      .drop(routeHintKey(sandbox))
      .catch((error: unknown) => this.#events.trouble('route hint', explain(error)));
  }
}
