/**
 * A thing that a room was given, which can be cut off from it: as if its process were killed. From then on no call reaches the thing, and no answer
 * of an earlier call comes back, so whatever the room was doing stops at its next await, for ever.
 */
export function severable<T extends object>(thing: T): { readonly held: T; sever(): void } {
  let severed = false;
  const never = new Promise<never>(() => {});

  function guarded(value: unknown): unknown {
    if (value instanceof Promise) {
      return value.then(
        (result) => (severed ? never : guarded(result)),
        (error: unknown) => {
          if (severed) return never;
          throw error;
        },
      );
    }
    return isPassive(value) ? value : wrap(value);
  }

  function wrap(target: object): unknown {
    return new Proxy(target, {
      get(of, key) {
        const value: unknown = Reflect.get(of, key);
        if (typeof value !== 'function') return isPassive(value) ? value : wrap(value);
        return (...given: unknown[]) => (severed ? never : guarded(Reflect.apply(value, of, given)));
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

/** Data is handed on as it is: only what has methods can reach the thing. */
function isPassive(value: unknown): value is string | number | boolean | bigint | symbol | null | undefined {
  if (typeof value !== 'object' || value === null) return true;
  if (Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set) return true;
  return !Object.values(value).some((part) => typeof part === 'function' || hasMethods(part)) && !hasMethods(value);
}

function hasMethods(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null)
    return Object.values(value).some((part) => typeof part === 'function');
  return !Array.isArray(value) && !ArrayBuffer.isView(value);
}
