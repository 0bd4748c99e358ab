/** As much of an EventSource, over a fetch of the caller's, as tRPC's subscriptions need: Node has none without a flag, and the browser's sends no key. */

/** `fetchIt` adds what authorises. A stream that cannot be opened, or ends, is an `error` event with its reason; it is not opened again. */
export function eventSourceOver(fetchIt: typeof fetch): typeof EventSource {
  class FetchEventSource extends EventTarget {
    static readonly CONNECTING = 0;
    static readonly OPEN = 1;
    static readonly CLOSED = 2;
    readonly CONNECTING = 0;
    readonly OPEN = 1;
    readonly CLOSED = 2;
    readyState = 0;
    readonly #end = new AbortController();

    constructor(url: string | URL) {
      super();
      this.#read(url).then(
        () => this.#fail(new Error('the stack ended the stream')),
        (error: unknown) => this.#fail(error),
      );
    }

    close(): void {
      this.readyState = 2;
      this.#end.abort();
    }

    async #read(url: string | URL): Promise<void> {
      const answer = await fetchIt(url, { headers: { accept: 'text/event-stream' }, signal: this.#end.signal });
      if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.text()).slice(0, 500)}`);
      this.readyState = 1;
      this.dispatchEvent(new Event('open'));
      const letters = new TextDecoder();
      let text = '';
      for await (const chunk of answer.body ?? []) {
        text += letters.decode(chunk, { stream: true });
        const blocks = text.split(/\r?\n\r?\n/);
        text = blocks.pop() ?? '';
        for (const block of blocks) this.#tell(block);
      }
    }

    #tell(block: string): void {
      const of = (field: string) =>
        block
          .split(/\r?\n/)
          .filter((line) => line.startsWith(`${field}:`))
          .map((line) => line.slice(field.length + 1).replace(/^ /, ''))
          .join('\n');
      this.dispatchEvent(new MessageEvent(of('event') || 'message', { data: of('data'), lastEventId: of('id') }));
    }

    #fail(error: unknown): void {
      if (this.readyState === 2) return;
      this.readyState = 2;
      this.dispatchEvent(
        Object.assign(new Event('error'), { message: error instanceof Error ? error.message : error }),
      );
    }
  }
  return FetchEventSource as never; // the subscription link uses only what is above
}
