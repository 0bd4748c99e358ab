/**
 * Each service runs under an account of its own: what one room was given is closed to the others, and hostd, which is root, listens to the node-agent
 * alone. Every refusal is asked for beside the same question by who may, so that a question that nobody may ask proves nothing.
 */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { torpor } from '../bench/lib/stack.ts';
import type { Status } from './own-installation.ts';
import { testEnv, testStack } from './test-stack.ts';

interface Account {
  readonly uid: number;
  readonly gid: number;
}

const ROOMS = ['gateway', 'sandbox-scheduler', 'node-agent'] as const;
const exec = promisify(execFile);

let stateDir = '';
let accounts: Record<string, Account> = {};
let secretsOf: Record<string, string> = {};
let hostdSocket = '';

beforeAll(async () => {
  ({ stateDir } = await testStack());
  const { services } = JSON.parse(await torpor(['status', '--json'], testEnv)) as Status; // its documented output
  const pids = Object.fromEntries(services.map(({ name, pid }) => [name, pid ?? 0]));
  const found = await Promise.all(
    Object.entries(pids).map(async ([name, pid]) => [name, await stat(`/proc/${pid}`)] as const),
  );
  accounts = Object.fromEntries(found.map(([name, { uid, gid }]) => [name, { uid, gid }]));
  const given = await Promise.all(ROOMS.map(async (room) => [room, await environmentOf(pids[room] ?? 0)] as const));
  secretsOf = Object.fromEntries(given.map(([room, env]) => [room, env['TORPOR_SECRETS'] ?? '']));
  const config = given.find(([room]) => room === 'node-agent')?.[1]['TORPOR_CONFIG'] ?? '';
  hostdSocket = (JSON.parse(await readFile(config, 'utf8')) as { driver: { hostdSocket: string } }).driver.hostdSocket; // written by `up`
});

describe('the accounts of the services', () => {
  it('are one for each, and none but hostd is root', () => {
    const { hostd, ...others } = accounts;
    expect(hostd).toEqual({ uid: 0, gid: 0 });
    const uids = Object.values(others).map(({ uid }) => uid);
    expect(uids).not.toContain(0);
    expect([uids.length, new Set(uids).size]).toEqual([5, 5]);
  });

  it("close each room's secrets to the others", async () => {
    for (const owner of ROOMS) {
      const path = secretsOf[owner] ?? '';
      expect(await as(owner, READ, path), `${owner} reads its own`).toBe('ok');
      expect(await as(owner, WRITE, path), `${owner} writes its own`).toBe('EACCES');
      for (const other of Object.keys(accounts).filter((name) => name !== owner && name !== 'hostd'))
        expect(await as(other, READ, path), `${other} reads ${owner}'s`).toBe('EACCES');
    }
  });

  it('close what the installation keeps to every one of them', async () => {
    for (const name of ['keys.json', 'credentials.json']) {
      expect(await as('hostd', READ, join(stateDir, name)), `root reads ${name}`).toBe('ok');
      for (const room of ROOMS) expect(await as(room, READ, join(stateDir, name)), `${room}, ${name}`).toBe('EACCES');
    }
  });

  it("close a service's data to the others", async () => {
    const directories = { postgres: 'postgres', nats: 'nats', 'node-agent': 'node' };
    for (const [owner, name] of Object.entries(directories)) {
      expect(await as(owner, LIST, join(stateDir, name)), `${owner} lists ${name}`).toBe('ok');
      for (const other of ['gateway', 'sandbox-scheduler'])
        expect(await as(other, LIST, join(stateDir, name)), `${other} lists ${name}`).toBe('EACCES');
    }
  });

  it('let the node-agent alone speak to hostd', async () => {
    expect(await as('node-agent', HELLO, hostdSocket)).toBe('ok');
    for (const other of ['gateway', 'sandbox-scheduler', 'nats', 'postgres'])
      expect(await as(other, HELLO, hostdSocket), other).toBe('EACCES');
  });
});

const READ = 'fs.readFileSync(path); say("ok")';
const WRITE = 'fs.writeFileSync(path, "x"); say("ok")';
const LIST = 'fs.readdirSync(path); say("ok")';
const HELLO = `const socket = require('node:net').createConnection(path, () => socket.write('{"id":1,"verb":"hello","args":{"protocol":1}}\\n'));
  socket.once('data', (bytes) => say(String(bytes).includes('"ok":true') ? 'ok' : String(bytes)));
  socket.once('error', (error) => say(error.code));
  socket.once('end', () => say('closed'))`;

/** What a process that has become a service's account meets: `ok`, or the error's code. It begins as root, for Node itself may lie where only root may go. */
async function as(service: string, act: string, path: string): Promise<string> {
  const { uid, gid } = accounts[service] ?? {};
  if (uid === undefined || gid === undefined) throw new Error(`no service is called ${service}`);
  const script = `const fs = require('node:fs'); const [path] = process.argv.slice(1);
    const say = (word) => { process.stdout.write(word); process.exit(0); };
    process.setgroups([]); process.setgid(${gid}); process.setuid(${uid});
    try { ${act} } catch (error) { say(error.code); }`;
  return (await exec(process.execPath, ['-e', script, path], { timeout: 20_000 })).stdout;
}

async function environmentOf(pid: number): Promise<Record<string, string>> {
  const lines = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0').filter((line) => line !== '');
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}
