/** The floor of a cold start: the same template, guest and limits by a bare `runsc run`, until the guest answers its first request. */
import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { promisify } from 'node:util';
import { torpor } from './stack.ts';

const exec = promisify(execFile);
const PORT = 7070;

interface Tools {
  readonly runsc: string;
  readonly guestLayerDir: string;
  readonly hostLayerDir: string;
  readonly templates: Record<string, { dir: string }>;
}

/** Milliseconds from `runsc run` to the first answer, `count` times. Root, network and overlay are made outside the clock. */
export async function bareRunsc(count: number): Promise<number[]> {
  const tools = JSON.parse(await torpor(['setup', '--json'])) as Tools; // printed by our own set-up
  const all: number[] = [];
  for (let n = 0; n < count; n++) all.push(await once(tools, n));
  return all;
}

async function once(tools: Tools, n: number): Promise<number> {
  const dir = await mkdtemp('/run/torpor-bare-');
  const netns = `tpbare${process.pid % 1000}x${n}`;
  const [host, peer] = [`tb${process.pid % 1000}h${n}`, `tb${process.pid % 1000}p${n}`];
  const root = join(dir, 'rootfs');
  const id = `bare-${n}`;
  const runsc = [
    tools.runsc,
    '--root',
    join(dir, 'state'),
    '--platform=systrap',
    '--network=sandbox',
    '--net-disconnect-ok',
    '--overlay2=none',
  ];
  const [program = '', ...flags] = runsc;
  try {
    for (const each of ['rootfs', 'upper', 'work', 'state']) await mkdir(join(dir, each));
    const lower = [
      tools.guestLayerDir,
      tools.hostLayerDir,
      ...Object.values(tools.templates).map((template) => template.dir),
    ].join(':');
    await exec('mount', [
      '-t',
      'overlay',
      'overlay',
      '-o',
      `lowerdir=${lower},upperdir=${dir}/upper,workdir=${dir}/work`,
      root,
    ]);
    await exec('ip', ['netns', 'add', netns]);
    await exec('ip', ['link', 'add', host, 'type', 'veth', 'peer', 'name', peer]);
    await exec('ip', ['link', 'set', peer, 'netns', netns]);
    await exec('ip', ['addr', 'add', '10.255.254.1/30', 'dev', host]);
    await exec('ip', ['link', 'set', host, 'up']);
    await exec('ip', ['-n', netns, 'addr', 'add', '10.255.254.2/30', 'dev', peer]);
    await exec('ip', ['-n', netns, 'link', 'set', peer, 'up']);
    await exec('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
    await exec('ip', ['-n', netns, 'route', 'add', 'default', 'via', '10.255.254.1']);
    await writeFile(join(dir, 'config.json'), JSON.stringify(bundle(netns)));
    const start = performance.now();
    const child = spawn(program, [...flags, 'run', '--bundle', dir, '--detach', id], { stdio: 'ignore' });
    await answers(child);
    return performance.now() - start;
  } finally {
    await exec(program, [...flags, 'delete', '-force', id]).catch(() => {}); // it may never have started
    await exec('umount', ['-l', join(dir, 'state', 'null-netns')]).catch(() => {}); // runsc binds an empty namespace there, and leaves it
    await exec('umount', ['-l', root]).catch(() => {}); // or not have been mounted
    await exec('ip', ['link', 'del', host]).catch(() => {}); // or not been made
    await exec('ip', ['netns', 'del', netns]).catch(() => {}); // likewise
    await rm(dir, { recursive: true, force: true });
  }
}

async function answers(child: { exitCode: number | null }): Promise<void> {
  const until = performance.now() + 20_000;
  while (performance.now() < until) {
    const status = await fetch(`http://10.255.254.2:${PORT}/v1/health`, {
      headers: { authorization: 'Bearer bare' },
      signal: AbortSignal.timeout(2_000),
    }).then(
      (answer) => answer.status,
      () => undefined, // not listening yet
    );
    if (status === 200) return;
    if (child.exitCode !== null && child.exitCode !== 0) throw new Error(`runsc run ended with ${child.exitCode}`);
    await after(2);
  }
  throw new Error('the bare sandbox did not answer; the timer "bare start" ended after 20000 ms');
}

function bundle(netns: string) {
  const caps = [
    'CAP_CHOWN',
    'CAP_DAC_OVERRIDE',
    'CAP_FOWNER',
    'CAP_KILL',
    'CAP_SETGID',
    'CAP_SETUID',
    'CAP_SYS_ADMIN',
    'CAP_SETPCAP',
    'CAP_NET_BIND_SERVICE',
  ];
  return {
    ociVersion: '1.0.0',
    process: {
      user: { uid: 0, gid: 0 },
      args: ['/torpor/guest', '--listen', `0.0.0.0:${PORT}`],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TORPOR_BOOT_TOKEN=bare'],
      cwd: '/',
      capabilities: { bounding: caps, effective: caps, permitted: caps },
    },
    root: { path: 'rootfs' },
    hostname: 'bare',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs' },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['ro'] },
      { destination: '/run', type: 'tmpfs', source: 'tmpfs' },
    ],
    linux: {
      namespaces: [
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'uts' },
        { type: 'mount' },
        { type: 'network', path: `/run/netns/${netns}` },
      ],
      resources: { memory: { limit: 4096 * 2 ** 20 } },
    },
  };
}
