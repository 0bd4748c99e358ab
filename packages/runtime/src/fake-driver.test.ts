import { newInstanceId } from '@torpor/contracts';
import { seededChance, systemChance } from '@torpor/kernel';
import { expect, it } from 'vitest';
import { anyIntent, describeInstanceDriver } from './conformance.ts';
import { FakeHost } from './fake/host.ts';
import { fakeDriver } from './fake-driver.ts';
import { runSteps } from './steps.ts';

const shape = { memoryMib: 256, cpus: 1, diskMib: 128, pids: 128 };

describeInstanceDriver('the fake driver', async () => {
  const host = new FakeHost();
  return {
    makeDriver: () => fakeDriver(host),
    template: 'base',
    shape,
    echoServer: (port) => `echo-server ${port}`,
    counter: 'count 20',
    async close() {},
  };
});

it('leaves what a failed step had done, so that cleaning up has something to find', async () => {
  const host = new FakeHost({ chance: seededChance(1) });
  const driver = fakeDriver(host);
  const id = newInstanceId(systemChance);
  const spec = { instanceId: id, slot: 1, template: 'base', shape, bootToken: 'boot' };
  host.failNext('sandbox.create', 'after');
  await expect(runSteps(driver.createSteps(spec), anyIntent(id))).rejects.toThrow(
    /failpoint: "sandbox.create" failed after/,
  );
  expect((await driver.inspect(id)).state).toBe('starting');
  await runSteps(driver.createSteps(spec), anyIntent(id));
  expect((await driver.inspect(id)).state).toBe('running');
});

it('loses what runs but not its disks when the host reboots', async () => {
  const host = new FakeHost();
  const driver = fakeDriver(host);
  const id = newInstanceId(systemChance);
  await runSteps(
    driver.createSteps({ instanceId: id, slot: 1, template: 'base', shape, bootToken: 'boot' }),
    anyIntent(id),
  );
  host.reboot();
  expect((await driver.inspect(id)).state).toBe('absent');
  expect(await driver.inventory()).toEqual({ instanceIds: [id], slots: [] });
});
