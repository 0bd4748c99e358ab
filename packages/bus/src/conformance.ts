import { defineCall, defineFact } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import type { Wire } from './wire.ts';

const double = defineCall({
  subject: 'scheduler.sandbox.double.v1',
  request: z.object({ n: z.number() }),
  reply: z.object({ n: z.number() }),
  deadlineMs: 300,
});
const onNode = defineCall({
  subject: 'node.{node}.instance.where.v1',
  request: z.object({}),
  reply: z.object({ node: z.string() }),
  deadlineMs: 300,
});
const happened = defineFact({ subject: 'events.instance.v1', body: z.object({ what: z.string() }) });

interface Ends {
  /** The gateway's end. */
  readonly asking: Wire;
  /** The scheduler's end. */
  readonly serving: Wire;
  /** The end of the node `a`. */
  readonly node: Wire;
  close(): Promise<void>;
}

/** What every wire promises, each room keeping to its own subjects. */
export function describeWire(name: string, open: () => Promise<Ends>): void {
  describe(`${name} keeps the promises of a wire`, () => {
    let ends: Ends;
    beforeAll(async () => {
      ends = await open();
    });
    afterAll(() => ends.close());

    it('carries a request and its answer, with the trace', async () => {
      let trace: string | undefined;
      const served = await ends.serving.serve(double, async ({ n }, context) => {
        trace = context.traceparent;
        return { n: n * 2 };
      });
      expect(await ends.asking.ask(double, { n: 21 }, { traceparent: '00-a-b-01' })).toEqual({ n: 42 });
      expect(trace).toBe('00-a-b-01');
      await served.close();
    });

    it('says at once that nobody serves a call', async () => {
      await expect(ends.asking.ask(double, { n: 1 })).rejects.toMatchObject({ code: 'unavailable', retryable: true });
    });

    it('names the timer when an answer does not come', async () => {
      const served = await ends.serving.serve(double, () => new Promise(() => {}));
      await expect(ends.asking.ask(double, { n: 1 }, { deadlineMs: 50 })).rejects.toMatchObject({
        code: 'deadline_exceeded',
        message: expect.stringContaining('"scheduler.sandbox.double.v1" ended after 50 ms'),
      });
      await served.close();
    });

    it('tells the server when its caller no longer waits', async () => {
      let told: unknown;
      const served = await ends.serving.serve(double, async ({ n }, { signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        told = signal.reason;
        return { n };
      });
      await expect(ends.asking.ask(double, { n: 1 }, { deadlineMs: 50 })).rejects.toThrow(/ended after 50 ms/);
      await vi.waitFor(() => expect(told).toMatchObject({ code: 'deadline_exceeded' }));
      await served.close();
    });

    it('keeps the code of a failure and hides no bug behind it', async () => {
      const fail = await ends.serving.serve(double, async ({ n }) => {
        if (n === 1) throw new Failure('conflict', 'taken', { retryable: true, details: { by: 'x' } });
        throw new TypeError('a bug');
      });
      await expect(ends.asking.ask(double, { n: 1 })).rejects.toMatchObject({
        code: 'conflict',
        retryable: true,
        details: { by: 'x' },
      });
      await expect(ends.asking.ask(double, { n: 2 })).rejects.toMatchObject({ code: 'internal' });
      await fail.close();
    });

    it('refuses a body of the wrong shape before it travels', async () => {
      await expect(ends.asking.ask(double, { n: 'two' } as never)).rejects.toMatchObject({ code: 'bad_request' });
    });

    it('reaches the node that was named, and no other', async () => {
      const a = await ends.node.serve(onNode, async () => ({ node: 'a' }), { node: 'a' });
      expect(await ends.serving.ask(onNode, {}, { node: 'a' })).toEqual({ node: 'a' });
      await expect(ends.serving.ask(onNode, {}, { node: 'b' })).rejects.toMatchObject({ code: 'unavailable' });
      await a.close();
    });

    it('lets facts be heard', async () => {
      const heard: string[] = [];
      const hearing = await ends.asking.hear(happened, ({ what }) => heard.push(what));
      ends.node.publish(happened, { what: 'a wake' });
      await vi.waitFor(() => expect(heard).toEqual(['a wake']));
      await hearing.close();
    });

    it('keeps hints until they are dropped', async () => {
      await ends.serving.hints.put('route.main.web', 'n1');
      await vi.waitFor(async () => expect(await ends.asking.hints.get('route.main.web')).toBe('n1'));
      await ends.serving.hints.drop('route.main.web');
      await vi.waitFor(async () => expect(await ends.asking.hints.get('route.main.web')).toBeUndefined());
    });
  });
}
