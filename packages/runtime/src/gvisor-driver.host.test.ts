import { newInstanceId } from '@torpor/contracts';
import { systemChance } from '@torpor/kernel';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { anyIntent, describeInstanceDriver } from './conformance.ts';
import { openGvisorHost, whyNoGvisor, type GvisorTestHost } from './gvisor-test-host.ts';
import { runSteps } from './steps.ts';

const shape = { memoryMib: 512, cpus: 1, diskMib: 128, pids: 256 };
const missing = whyNoGvisor();

if (missing) console.warn(`NOT TESTED on a real host: the gVisor driver ${missing}`);

describe.skipIf(missing)('on a real host', () => {
  describeInstanceDriver('the gVisor driver', async () => {
    const host = await openGvisorHost();
    return { ...host, template: 'base', shape, echoServer, counter: COUNTER };
  });
});

const COUNTER = 'i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done';

/** Perl is in every Debian, so it serves. */
function echoServer(port: number): string {
  const listen = `IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>${port},Listen=>5)`;
  return `perl -MIO::Socket::INET -e '$s=${listen};while($c=$s->accept){while(sysread($c,$b,65536)){syswrite($c,$b)}close($c)}'`;
}

describe.skipIf(missing)('the gVisor driver on a host that loses hostd', () => {
  let host: GvisorTestHost;

  beforeAll(async () => {
    host = await openGvisorHost();
  }, 300_000);
  afterAll(async () => {
    await host?.close();
  });

  it('says so when what is started ends instead of answering', async () => {
    const driver = host.makeDriver();
    await driver.prepare();
    const id = newInstanceId(systemChance);
    const spec = { instanceId: id, slot: 2, template: 'base', shape, bootToken: '' }; // the guest refuses an empty token and ends
    await expect(runSteps(driver.createSteps(spec), anyIntent(id))).rejects.toThrow(/ended before its guest answered/);
    await runSteps(driver.destroySteps(spec), anyIntent(id));
  });

  it('keeps sleeping and waking instances through the successor of a killed hostd, over the connections it had', async () => {
    const driver = host.makeDriver();
    await driver.prepare();
    const id = newInstanceId(systemChance);
    const spec = { instanceId: id, slot: 1, template: 'base', shape, bootToken: 'boot' };
    await runSteps(driver.createSteps(spec), anyIntent(id));
    const guest = driver.guest(driver.handle(spec), 'boot');
    const before = await guest.json<{ uptimeMs: number }>('GET', '/v1/health');
    await driver.pause(id);
    await host.restartHostd();
    expect((await driver.inspect(id)).state).toBe('frozen');
    await driver.resume(id);
    expect((await guest.json<{ uptimeMs: number }>('GET', '/v1/health')).uptimeMs).toBeGreaterThan(before.uptimeMs);
    guest.close();
    await runSteps(driver.destroySteps(spec), anyIntent(id));
  });
});
