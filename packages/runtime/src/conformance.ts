/**
 * What every driver promises, told once: run against the fake, and against real isolation where the host allows it. The commands used inside are
 * those that both a real shell and the fake one know.
 */
import { InstanceId, newInstanceId, newVolumeId, type Shape } from '@torpor/contracts';
import { Failure, systemChance, systemClock, withDeadline } from '@torpor/kernel';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Guest, GuestIdentity } from './guest.ts';
import {
  isDamage,
  VOLUMES_DIR,
  type InstanceDriver,
  type InstanceHandle,
  type InstanceSpec,
  type Intent,
  type RestoreSpec,
  type Step,
  type StoreFacts,
} from './port.ts';
import { runSteps } from './steps.ts';

/** A host to run the suite on. */
export interface ConformanceHost {
  /** A new driver object on the same host, as after a restart of the node-agent. */
  makeDriver(): InstanceDriver;
  readonly template: string;
  readonly shape: Shape;
  /** A shell line that serves a port on the loopback address inside and gives back what it gets. */
  echoServer(port: number): string;
  /** A shell line that counts in its memory, and prints 1, 2, 3 …, a line each, some each second. */
  readonly counter: string;
  close(): Promise<void>;
}

interface Started {
  readonly id: InstanceId;
  readonly slot: number;
  readonly handle: InstanceHandle;
  guest: Guest;
  readonly bootToken: string;
  readonly spec: InstanceSpec;
  readonly images: string[];
}

const KEY = new Uint8Array(32).fill(7);

interface RanProcess {
  readonly id: string;
  readonly status: string;
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stdoutBytes: number;
}

/** An intent that covers everything, for a suite that keeps no journal. */
export function anyIntent(instanceId: InstanceId): Intent {
  return { instanceId, operation: 'conformance', covers: () => true };
}

export function describeInstanceDriver(name: string, openHost: () => Promise<ConformanceHost>): void {
  describe(`${name} keeps the promises of an instance driver`, () => {
    let host: ConformanceHost;
    let driver: InstanceDriver;
    let slots = 0;
    const started: Started[] = [];

    beforeAll(async () => {
      host = await openHost();
      driver = host.makeDriver();
      await driver.prepare();
    }, 300_000);

    it('names what it makes instances of, by the same name after a restart', async () => {
      const next = host.makeDriver();
      await next.prepare();
      expect(next.build).toBe(driver.build);
      next.close();
    });

    afterEach(async () => {
      for (const instance of started.splice(0)) {
        instance.guest.close();
        const { id, slot, images } = instance;
        await runSteps(driver.destroySteps({ instanceId: id, slot, images }), anyIntent(id));
      }
    });

    afterAll(async () => {
      await host?.close();
    });

    async function start(): Promise<Started> {
      const id = newInstanceId(systemChance);
      slots += 1;
      const slot = slots;
      const bootToken = `boot-${id}`;
      const spec = { instanceId: id, slot, template: host.template, shape: host.shape, bootToken };
      const handle = driver.handle({ instanceId: id, slot });
      const instance = { id, slot, handle, guest: driver.guest(handle, bootToken), bootToken, spec, images: [] };
      started.push(instance);
      await runSteps(driver.createSteps(spec), anyIntent(id));
      return instance;
    }

    async function startClaimed(): Promise<Started> {
      const instance = await start();
      await instance.guest.claim(identity(1));
      return instance;
    }

    async function store(instance: Started): Promise<string> {
      const image = `${instance.id}-${instance.images.length + 1}`;
      instance.images.push(image);
      const facts: Partial<StoreFacts>[] = [];
      const spec = { instanceId: instance.id, image, key: KEY, manifest: { test: true } };
      await runSteps(
        driver.storeSteps(spec, (found) => facts.push(found)),
        anyIntent(instance.id),
      );
      expect(Object.assign({}, ...facts)).toMatchObject({
        bytes: expect.any(Number),
        digest: expect.any(String),
        stallMs: expect.any(Number),
        fsyncMs: expect.any(Number),
        verifyMs: expect.any(Number),
      });
      return image;
    }

    async function release({ id }: Started): Promise<void> {
      await runSteps(driver.releaseSteps({ instanceId: id }), anyIntent(id));
      expect((await driver.inspect(id)).state).toBe('absent');
    }

    /** Its guest is reached anew: what was connected to the one that was let go is not. */
    async function restore(
      instance: Started,
      image: string,
      disk: RestoreSpec['disk'] = { kind: 'as-it-is' },
      key = KEY,
    ): Promise<Guest> {
      const { id, spec, handle } = instance;
      const { token } = identity(1);
      instance.guest.close();
      await runSteps(driver.restoreSteps({ ...spec, image, key, token, disk }), anyIntent(id));
      return (instance.guest = driver.guest(handle, token));
    }

    it('answers its health with the boot token as soon as the last step has ended', async () => {
      const { guest } = await start();
      expect(await guest.json('GET', '/v1/health')).toMatchObject({ ready: true, claimed: false });
    });

    it('creates once when the steps are run twice', async () => {
      const { id, slot, guest, bootToken } = await start();
      const before = await driver.inspect(id);
      const spec = { instanceId: id, slot, template: host.template, shape: host.shape, bootToken };
      await runSteps(driver.createSteps(spec), anyIntent(id));
      expect(await driver.inspect(id)).toMatchObject({
        state: 'running',
        pid: before.pid,
        startTicks: before.startTicks,
      });
      expect(await guest.json('GET', '/v1/health')).toMatchObject({ ready: true });
    });

    it('refuses a step without a journaled intent, and has then done nothing', async () => {
      const id = newInstanceId(systemChance);
      slots += 1;
      const spec = { instanceId: id, slot: slots, template: host.template, shape: host.shape, bootToken: 'boot' };
      const uncovered: Intent = { instanceId: id, operation: 'nothing', covers: () => false };
      const steps = [...driver.createSteps(spec), ...driver.destroySteps({ instanceId: id, slot: slots })];
      for (const step of steps) await expect(step.run(uncovered)).rejects.toThrow(/without a journaled intent/);
      expect((await driver.inventory()).instanceIds).not.toContain(id);
    });

    it('gives an instance its identity once per generation and changes the token', async () => {
      const { guest, handle, bootToken } = await start();
      await guest.claim(identity(1));
      expect(await guest.json('GET', '/v1/health')).toMatchObject({ claimed: true, generation: 1 });
      await expect(guest.claim(identity(1))).rejects.toMatchObject({ code: 'conflict' });
      const stranger = driver.guest(handle, bootToken);
      await expect(stranger.json('GET', '/v1/health')).rejects.toMatchObject({ code: 'unauthenticated' });
      stranger.close();
      const successor = driver.guest(handle, identity(1).token);
      expect(await successor.json('GET', '/v1/health')).toMatchObject({ claimed: true });
      successor.close();
    });

    it('runs commands under its identity and tells their output and exit code', async () => {
      const { guest } = await startClaimed();
      const told = await run(guest, 'echo "hello $GREETING"; hostname; exit 3');
      expect(told).toMatchObject({ stdout: 'hello world\nconformance\n', exitCode: 3, status: 'exited' });
    });

    it('streams output that comes later', async () => {
      const { guest } = await startClaimed();
      const process = await guest.json<RanProcess>('POST', '/v1/processes', { shell: 'echo one; sleep 0.2; echo two' });
      const answer = await guest.send({
        method: 'GET',
        path: `/v1/processes/${process.id}/output?stream=stdout&follow=1&format=raw`,
      });
      expect(await text(answer.body)).toBe('one\ntwo\n');
    });

    it('keeps files, and tells what is wrong in our words', async () => {
      const { guest } = await startClaimed();
      const bytes = Buffer.alloc(300_000, 'torpor');
      const put = await guest.send({
        method: 'PUT',
        path: '/v1/files/content?path=data/a.bin&parents=1',
        body: bytes,
        bulk: true,
      });
      expect(put.status).toBe(200);
      put.body.resume();
      const get = await guest.send({ method: 'GET', path: '/v1/files/content?path=data/a.bin', bulk: true });
      expect(Buffer.from(await new Response(await text(get.body)).arrayBuffer()).equals(bytes)).toBe(true);
      expect(await guest.json('GET', '/v1/files/stat?path=data/a.bin')).toMatchObject({ type: 'file', size: 300_000 });
      await expect(guest.json('GET', '/v1/files/stat?path=nowhere')).rejects.toMatchObject({ code: 'not_found' });
      await expect(guest.json('DELETE', '/v1/files?path=data')).rejects.toMatchObject({ code: 'unprocessable' });
      await guest.json('DELETE', '/v1/files?path=data&recursive=1');
      await expect(guest.json('GET', '/v1/files/stat?path=data')).rejects.toMatchObject({ code: 'not_found' });
    });

    it('answers nothing and uses no CPU while it is paused, and answers what was asked meanwhile when it is resumed', async () => {
      const { id, guest } = await startClaimed();
      await guest.json('POST', '/v1/processes', {
        name: 'ticker',
        shell: 'while true; do echo tick; sleep 0.02; done',
      });
      await eventually('the ticker ticks', async () => (await process(guest, 'ticker')).stdoutBytes > 0);

      await driver.pause(id);
      const asleep = await driver.inspect(id);
      expect(asleep.state).toBe('frozen');
      let answered = false;
      const pending = guest.json('GET', '/v1/health', undefined, { headMs: 20_000 }).then(() => (answered = true));
      await systemClock.after(300);
      const later = await driver.inspect(id);
      expect(later.cpuUsageNs).toBe(asleep.cpuUsageNs);
      expect(later.pid).toBe(asleep.pid);
      expect(answered).toBe(false);

      await driver.resume(id);
      await pending;
      expect((await driver.inspect(id)).state).toBe('running');
      const atWake = (await process(guest, 'ticker')).stdoutBytes;
      await eventually('the ticker goes on', async () => (await process(guest, 'ticker')).stdoutBytes > atWake);
    });

    it('names the timer when a paused guest does not answer in time, and serves the next call over the same object', async () => {
      const { id, guest } = await startClaimed();
      await guest.json('GET', '/v1/health');
      await driver.pause(id);
      const asked = guest.json('GET', '/v1/health', undefined, { headMs: 100 });
      await expect(asked).rejects.toMatchObject({
        code: 'deadline_exceeded',
        message: expect.stringMatching(/timer.*health/),
      });
      const left = new AbortController();
      const abandoned = guest.json('GET', '/v1/health', undefined, { signal: left.signal });
      left.abort(new Failure('client_closed', 'the caller left'));
      await expect(abandoned).rejects.toMatchObject({ code: 'client_closed' });
      await driver.resume(id);
      expect(await guest.json('GET', '/v1/health')).toMatchObject({ ready: true });
    });

    it('pauses twice and resumes twice as once', async () => {
      const { id, guest } = await startClaimed();
      await driver.pause(id);
      await driver.pause(id);
      expect((await driver.inspect(id)).state).toBe('frozen');
      await driver.resume(id);
      await driver.resume(id);
      expect((await driver.inspect(id)).state).toBe('running');
      expect(await run(guest, 'true')).toMatchObject({ exitCode: 0 });
    });

    it('keeps processes and files over many naps', async () => {
      const { id, guest } = await startClaimed();
      await guest.json('POST', '/v1/processes', { name: 'kept', shell: 'sleep 600' });
      const before = await process(guest, 'kept');
      for (let nap = 0; nap < 10; nap++) {
        expect(await run(guest, `echo nap >> /tmp/naps`)).toMatchObject({ exitCode: 0 });
        await driver.pause(id);
        await driver.resume(id);
      }
      expect((await run(guest, 'cat /tmp/naps')).stdout).toBe('nap\n'.repeat(10));
      expect(await process(guest, 'kept')).toMatchObject({ id: before.id, status: 'running' });
    });

    it('pages a paused instance out and leaves it paused; it wakes as it was', async () => {
      const { id, guest } = await startClaimed();
      await guest.json('POST', '/v1/processes', { name: 'hello', shell: 'echo hello', waitMs: 5_000 });
      const giveWay = new AbortController();
      const options = { budgetMs: 20_000, giveWay: giveWay.signal };
      await expect(driver.lean(id, options)).rejects.toThrow(/is not paused/);
      await driver.pause(id);
      const before = (await driver.usage([id])).get(id);
      const lean = await driver.lean(id, options);
      expect(lean).toMatchObject({ gaveWay: false, tookMs: expect.any(Number) });
      expect(lean.swapMib).toBeGreaterThan(0);
      expect(lean.memoryMib).toBeLessThan(before?.memoryMib ?? 0);
      expect((await driver.inspect(id)).state).toBe('frozen');
      expect((await driver.usage([id])).get(id)?.swapMib).toBeGreaterThan(0);
      await driver.resume(id);
      expect(await guest.json('GET', '/v1/processes/hello')).toMatchObject({ name: 'hello' });
    });

    it('destroys a paused instance, and twice is once', async () => {
      const { id, slot } = await startClaimed();
      expect(await driver.inventory()).toMatchObject({
        instanceIds: expect.arrayContaining([id]),
        slots: expect.arrayContaining([slot]),
      });
      await driver.pause(id);
      await runSteps(driver.destroySteps({ instanceId: id, slot }), anyIntent(id));
      await runSteps(driver.destroySteps({ instanceId: id, slot }), anyIntent(id));
      expect((await driver.inspect(id)).state).toBe('absent');
      const { instanceIds, slots } = await driver.inventory();
      expect(instanceIds).not.toContain(id);
      expect(slots).not.toContain(slot);
    });

    it('fails the calls under way when the guest of a destroyed instance is closed', async () => {
      const { id, slot, guest, handle, bootToken } = await startClaimed();
      const asked = guest.json('POST', '/v1/processes', { shell: 'sleep 600', waitMs: 600_000 }, { headMs: 0 });
      const outcome = asked.then(
        () => 'answered',
        (error: unknown) => error,
      );
      await eventually(
        'the process runs',
        async () => (await guest.json<{ processes: number }>('GET', '/v1/health')).processes > 0,
      );
      await runSteps(driver.destroySteps({ instanceId: id, slot }), anyIntent(id));
      guest.close();
      expect(await withDeadline({ name: 'calls under way fail', ms: 10_000 }, () => outcome)).toMatchObject({
        code: 'unavailable',
      });
      await expect(guest.json('GET', '/v1/health')).rejects.toMatchObject({ code: 'unavailable' });
      const late = driver.guest(handle, bootToken);
      await expect(late.json('GET', '/v1/health', undefined, { headMs: 1000 })).rejects.toBeInstanceOf(Failure);
      late.close();
    });

    it('is taken over by a new driver object, asleep or awake', async () => {
      const { id, slot } = await startClaimed();
      const before = await driver.inspect(id);
      await driver.pause(id);
      driver = host.makeDriver();
      await driver.prepare();
      expect(await driver.inspect(id)).toMatchObject({
        state: 'frozen',
        pid: before.pid,
        startTicks: before.startTicks,
      });
      await driver.resume(id);
      const guest = driver.guest(driver.handle({ instanceId: id, slot }), identity(1).token);
      expect(await guest.json('GET', '/v1/health')).toMatchObject({ claimed: true });
      guest.close();
    });

    it('carries bytes both ways to a listener on the loopback address inside, over a nap too', async () => {
      const { id, guest } = await startClaimed();
      await expect(guest.tunnel(8099)).rejects.toMatchObject({ code: 'bad_gateway' });
      await guest.json('POST', '/v1/processes', { shell: host.echoServer(8099) });
      await guest.json('GET', '/v1/ports/8099/wait?waitMs=10000', undefined, { headMs: 15_000 });
      const tunnel = await guest.tunnel(8099);
      const heard = text(tunnel);
      tunnel.write('before ');
      await driver.pause(id);
      tunnel.write('during ');
      await driver.resume(id);
      tunnel.end('after');
      expect(await withDeadline({ name: 'the echo ends', ms: 10_000 }, () => heard)).toBe('before during after');
    });

    it('tells what keeps it busy, and when nothing does any more', async () => {
      const { guest } = await startClaimed();
      expect((await guest.busy()).keepAlive).toBe(0);
      await guest.json('POST', '/v1/processes', { name: 'kept', shell: 'sleep 600', keepAlive: true });
      expect((await guest.busy()).keepAlive).toBe(1);
      const idle = guest.busy({ untilIdleMs: 20_000 });
      await guest.json('POST', '/v1/processes/kept/signal', { signal: 'KILL', group: true });
      expect((await idle).keepAlive).toBe(0);
    });

    it('comes back from an image as it was, the second and the tenth time too', async () => {
      const instance = await startClaimed();
      const { id } = instance;
      let { guest } = instance;
      await guest.json('POST', '/v1/processes', { name: 'counter', shell: host.counter });
      await guest.json('POST', '/v1/processes', { name: 'echo', shell: host.echoServer(8098) });
      await guest.json('GET', '/v1/ports/8098/wait?waitMs=10000', undefined, { headMs: 15_000 });
      let before = await process(guest, 'counter');
      for (let sleep = 1; sleep <= 10; sleep++) {
        expect(await run(guest, `echo ${sleep} >> /root/sleeps`)).toMatchObject({ exitCode: 0 });
        await driver.pause(id);
        const image = await store(instance);
        expect((await driver.inspect(id)).state).toBe('frozen');
        await release(instance);
        guest = await restore(instance, image);
        expect((await driver.inspect(id)).state).toBe('running');
        const after = await process(guest, 'counter');
        expect(after).toMatchObject({ id: before.id, status: 'running' });
        expect(after.stdoutBytes).toBeGreaterThanOrEqual(before.stdoutBytes);
        await eventually(
          'the counter goes on',
          async () => (await process(guest, 'counter')).stdoutBytes > after.stdoutBytes,
        );
        before = after;
      }
      expect((await run(guest, 'cat /root/sleeps')).stdout).toBe('1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n');
      const answer = await guest.send({ method: 'GET', path: '/v1/processes/counter/output?stream=stdout&format=raw' });
      const counted = (await text(answer.body)).trimEnd().split('\n').map(Number);
      expect(counted).toEqual(counted.map((_, index) => index + 1));
      const tunnel = await guest.tunnel(8098);
      const heard = text(tunnel);
      tunnel.end('still there');
      expect(await withDeadline({ name: 'the echo ends', ms: 10_000 }, () => heard)).toBe('still there');
    }, 120_000);

    it('goes on from RAM when it is woken after a store, and leaves an older image to fall back to', async () => {
      const instance = await startClaimed();
      const { guest, id } = instance;
      await run(guest, 'echo kept > /root/file');
      await driver.pause(id);
      const image = await store(instance);
      await driver.resume(id);
      await run(guest, 'echo later > /root/file');
      await driver.pause(id);
      await release(instance);
      const keep = `${id}-at-death`;
      instance.images.push(keep);
      const again = await restore(instance, image, { kind: 'as-then', keep });
      expect((await run(again, 'cat /root/file')).stdout).toBe('kept\n');
    }, 60_000);

    it('refuses an image under another key, and says that trying again cannot help', async () => {
      const instance = await startClaimed();
      await driver.pause(instance.id);
      const image = await store(instance);
      await release(instance);
      const wrong = restore(instance, image, { kind: 'as-it-is' }, new Uint8Array(32).fill(8));
      const error = await wrong.then(() => undefined).catch((reason: unknown) => reason);
      expect(isDamage(error)).toBe(true);
      await restore(instance, image);
      expect(await run(instance.guest, 'true')).toMatchObject({ exitCode: 0 });
    }, 60_000);

    it('starts anew on the files that it had, when there is nothing else', async () => {
      const instance = await startClaimed();
      const { guest, id, spec, handle } = instance;
      await run(guest, 'echo kept > /root/file');
      await driver.pause(id);
      await release(instance);
      await runSteps(driver.bootSteps(spec), anyIntent(id));
      const fresh = driver.guest(handle, spec.bootToken);
      await fresh.claim(identity(1));
      expect((await run(fresh, 'cat /root/file')).stdout).toBe('kept\n');
      fresh.close();
    }, 60_000);

    it('lists images, forgets them, and takes them along when it is destroyed', async () => {
      const instance = await startClaimed();
      const { id, slot, images } = instance;
      const known = async () =>
        (await driver.images()).map(({ image }) => image).filter((image) => image.startsWith(id));
      await driver.pause(id);
      const first = await store(instance);
      const second = await store(instance);
      expect((await known()).sort()).toEqual([first, second]);
      expect((await driver.images()).find(({ image }) => image === first)).toMatchObject({ sealed: true });
      await runSteps(driver.forgetSteps({ instanceId: id, images: [first] }), anyIntent(id));
      expect(await known()).toEqual([second]);
      await runSteps(driver.destroySteps({ instanceId: id, slot, images }), anyIntent(id));
      expect(await known()).toEqual([]);
    }, 60_000);

    it('gives a running instance a volume, which its images hold, and takes it away again', async () => {
      const instance = await startClaimed();
      const { id, spec } = instance;
      const [volume, copy] = [newVolumeId(systemChance), newVolumeId(systemChance)];
      const about = (which: string, steps: readonly Step[]) => runSteps(steps, anyIntent(InstanceId.parse(which)));
      const place = { volume, name: volume };
      const at = { ...place, instanceId: id };
      await about(volume, driver.volumeSteps({ volume, sizeMib: 64 }));
      await about(volume, driver.attachSteps(at));
      const mount = () =>
        instance.guest.json('POST', '/v1/mounts', { source: `${VOLUMES_DIR}/${volume}`, target: '/data' });
      await mount();
      await mount();
      await run(instance.guest, 'echo then > /data/file');
      await driver.pause(id);
      const image = `${id}-1`;
      instance.images.push(image);
      const what = { instanceId: id, image, key: KEY, manifest: {} };
      await expect(
        runSteps(
          driver.storeSteps(what, () => {}),
          anyIntent(id),
        ),
      ).rejects.toThrow(/volumes/);
      await runSteps(driver.forgetSteps({ instanceId: id, images: [image] }), anyIntent(id));
      await runSteps(
        driver.storeSteps({ ...what, volumes: [place] }, () => {}),
        anyIntent(id),
      );
      await driver.resume(id);
      await run(instance.guest, 'echo now > /data/file');
      await about(copy, driver.volumeSteps({ volume: copy, sizeMib: 64, from: volume }));
      expect(
        (await driver.volumeUsage([{ volume, at: { instanceId: id, name: volume } }, { volume: copy }])).size,
      ).toBe(2);
      await release(instance);
      const back = { image, key: KEY, token: identity(1).token, disk: { kind: 'as-then' as const } };
      instance.guest.close();
      await runSteps(driver.restoreSteps({ ...spec, ...back, volumes: [{ ...place, of: volume }] }), anyIntent(id));
      instance.guest = driver.guest(instance.handle, identity(1).token);
      expect((await run(instance.guest, 'cat /data/file')).stdout).toBe('then\n');
      await instance.guest.json('DELETE', '/v1/mounts?target=/data');
      await about(volume, driver.detachSteps(at));
      await about(copy, driver.attachSteps({ ...at, volume: copy, name: volume }));
      await mount();
      expect((await run(instance.guest, 'cat /data/file')).stdout).toBe('now\n');
      await expect(about(copy, driver.dropVolumeSteps({ volume: copy }))).rejects.toMatchObject({
        code: 'unavailable',
      });
      await runSteps(driver.destroySteps({ instanceId: id, slot: instance.slot, images: [image] }), anyIntent(id));
      for (const gone of [volume, copy]) await about(gone, driver.dropVolumeSteps({ volume: gone }));
      expect((await driver.volumeUsage([{ volume }, { volume: copy }])).size).toBe(0);
    }, 60_000);

    it('meters CPU, memory, disk and traffic', async () => {
      const { id, guest } = await startClaimed();
      const before = (await driver.usage([id])).get(id);
      await guest.json('GET', '/v1/health');
      await run(guest, 'echo work');
      const after = (await driver.usage([id])).get(id);
      expect(after?.memoryMib).toBeGreaterThan(0);
      expect(after?.diskMib).toBeGreaterThanOrEqual(0);
      expect(after?.cpuUsageNs).toBeGreaterThan(before?.cpuUsageNs ?? 0);
      expect(after?.txBytes).toBeGreaterThan(before?.txBytes ?? 0);
      expect(after?.rxBytes).toBeGreaterThan(before?.rxBytes ?? 0);
      expect((await driver.capacity()).memoryFreeMib).toBeGreaterThan(0);
    });
  });
}

function identity(generation: number): GuestIdentity {
  return {
    name: 'conformance',
    hostname: 'conformance',
    env: { GREETING: 'world' },
    workdir: '/work',
    user: 'root',
    token: `token-${generation}`,
    generation,
  };
}

async function run(guest: Guest, shell: string): Promise<RanProcess> {
  return await guest.json('POST', '/v1/processes', { shell, waitMs: 10_000 }, { headMs: 15_000 });
}

async function process(guest: Guest, name: string): Promise<RanProcess> {
  return await guest.json('GET', `/v1/processes/${name}`);
}

async function eventually(what: string, met: () => Promise<boolean>): Promise<void> {
  await withDeadline({ name: what, ms: 10_000 }, async (signal) => {
    while (!(await met())) await systemClock.after(10, signal);
  });
}
