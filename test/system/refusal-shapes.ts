/** The shapes in which each plane refuses (specs/blaxel.md §2 and tRPC's): what a client's error handling reads. */

export type Shape = keyof typeof SHAPES;

type Body = Readonly<Record<string, unknown>>;

const SHAPES = {
  /** The control plane: numeric code, words, message. */
  control: (body: Body, status: number) => body['code'] === status && isText(body['error']) && isText(body['message']),
  /** Its creation of sandboxes: a code that is a word. */
  creation: (body: Body, status: number) =>
    /^[A-Z_]{5,}$/.test(String(body['code'])) && body['status_code'] === status && isText(body['message']),
  /** The run plane, from the gateway: nested, with what to do. */
  run: (body: Body, status: number) =>
    isBody(body['error']) &&
    body['error']['status'] === status &&
    isText(body['error']['code']) &&
    isText(body['error']['message']),
  /** The API inside a sandbox: one text. */
  inside: (body: Body) => isText(body['error']),
  rpc: (body: Body, status: number) =>
    isBody(body['error']) &&
    isText(body['error']['message']) &&
    isBody(body['error']['data']) &&
    body['error']['data']['httpStatus'] === status,
} as const;

/** Whether the text is JSON in one of the shapes, with a message for a person. */
export function hasShape(shapes: readonly Shape[], status: number, text: string): boolean {
  try {
    const body: unknown = JSON.parse(text);
    // A batch of procedures is refused one by one.
    if (Array.isArray(body) && shapes.includes('rpc')) return body.every((each) => isBody(each));
    return isBody(body) && shapes.some((shape) => SHAPES[shape](body, status));
  } catch {
    return false; // no JSON is no shape
  }
}

export const ANY_SHAPE = Object.keys(SHAPES) as Shape[]; // its own keys

function isBody(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 3;
}
