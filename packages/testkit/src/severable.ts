import { EventEmitter } from 'node:events';

export interface SeverableOptions {
  /** Methods that answer at once and change nothing outside; they go on answering after the cut. All others answer promises. */
  readonly sync?: readonly string[];
  /** Run around every call: a hook may wait, and it may sever. */
  before?(method: string): Promise<void>;
  after?(method: string): Promise<void>;
}

/**
 * A thing that a room was given, which can be cut off from it: as if its process were killed. From then on no call reaches the thing, and no answer
 * of an earlier call comes back, so whatever the room was doing stops at its next await, for ever.
 */
export function severable<T extends object>(
  thing: T,
  options: SeverableOptions = {},
): { readonly held: T; sever(): void } {
  const sync = new Set(options.sync);
  let severed = false;

  async function call(method: string, work: () => unknown): Promise<unknown> {
    if (severed) return await NEVER;
    if (options.before) await options.before(method);
    if (severed) return await NEVER;
    try {
      return guarded(await work());
    } catch (error) {
      if (severed) return await NEVER;
      throw error;
    } finally {
      if (options.after) await options.after(method);
      if (severed) await NEVER;
    }
  }

  function guarded(value: unknown): unknown {
    if (Array.isArray(value)) return value.some(hasMethods) ? value.map(guarded) : value;
    return hasMethods(value) ? wrap(value) : value;
  }

  function wrap(target: object): unknown {
    return new Proxy(target, {
      get(of, key) {
        const value: unknown = Reflect.get(of, key);
        if (typeof value !== 'function') return guarded(value);
        const method = String(key);
        const work = (given: unknown[]) => (): unknown => Reflect.apply(value, of, given);
        return (...given: unknown[]) => (sync.has(method) ? guarded(work(given)()) : call(method, work(given)));
      },
    });
  }

  return {
    held: wrap(thing) as T, // the proxy answers as the thing does
    sever: () => {
      severed = true;
    },
  };
}

const NEVER = new Promise<never>(() => {});

/** Only what has methods can reach outside; data is handed on as it is. Streams are let through: they are carried, not called. */
function hasMethods(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || value instanceof EventEmitter) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) {
    return Object.values(value).some((part) => typeof part === 'function' || hasMethods(part));
  }
  return !(Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set);
}
