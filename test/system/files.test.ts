/** Files of a sandbox and its fork, compared between points of their lives on the true stack, through the CLI and the API. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api, type Point } from '../bench/lib/api.ts';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import { torpor, type Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { freshName, testEnv, testStack } from './test-stack.ts';

let stack: Stack;
let parent: Made;
let made: Made[];

beforeAll(async () => {
  stack = await testStack();
  parent = await createOne(stack, freshName('parent'), { idle: { kind: 'never' } });
  made = [parent];
  await sh(
    stack,
    parent,
    'mkdir -p /srv/app/old && cd /srv/app && echo one > changes && echo one > goes && echo in > old/in',
  );
});

afterAll(() => deleteMany(stack, made));

const now = ({ name }: Made): Point => ({ name, at: 'now' });
const then = ({ name }: Made, snapshot: string): Point => ({ name, at: { snapshot } });

async function diff(from: Point, to: Point, under = 'srv/app') {
  const { changes } = await api(stack).diff({ from, to, under });
  return changes.map(({ what, path }) => `${what} ${path}`);
}

it(
  'tells what changed between two snapshots, and since the last one, and leaves no snapshot behind',
  { timeout: 120_000 },
  async () => {
    const { snapshot, snapshots } = api(stack);
    await snapshot(parent.name, 'one');
    // As long as before, and not synced: what gVisor has not written yet counts.
    await sh(
      stack,
      parent,
      'cd /srv/app && echo two > changes && rm -r goes old && mkdir -p new/deep && echo x > new/deep/file && ln -s /etc old',
    );
    const changes = ['changed srv/app/changes', 'removed srv/app/goes', 'added srv/app/new', 'retyped srv/app/old'];
    expect(await diff(then(parent, 'one'), now(parent))).toEqual(changes);
    await snapshot(parent.name, 'two');
    expect(await diff(then(parent, 'one'), then(parent, 'two'))).toEqual(changes);
    expect(await diff(then(parent, 'two'), now(parent))).toEqual([]);
    await sh(stack, parent, 'chmod 600 /srv/app/changes; rm -rf /usr/share/doc');
    expect(await diff({ name: parent.name, at: 'last' }, now(parent), '/')).toEqual(
      expect.arrayContaining(['restated srv/app/changes', 'removed usr/share/doc']),
    );
    const left = (await snapshots(parent.name)).map(({ because }) => because);
    expect(left).not.toContain('compare');
    const said = await torpor(['diff', `${parent.name}@one`, `${parent.name}@two`, '--under', '/srv/app'], testEnv);
    expect(said.split('\n').slice(0, 3)).toEqual([
      'M /srv/app/changes  4 bytes → 4 bytes',
      '- /srv/app/goes  4 bytes',
      '+ /srv/app/new/  2 entries, 2 bytes',
    ]);
  },
);

async function forked(): Promise<Made> {
  const { forks } = await api(stack).fork(parent.name, { as: freshName('fork'), count: 1 });
  const [fork] = forks.map(({ name, url, hostId = '' }) => ({ name, url, hostId }));
  if (!fork) throw new Error('no fork was made');
  made.push(fork);
  return fork;
}

it('tells what a fork has changed since its base, asleep on the disk or not', { timeout: 120_000 }, async () => {
  const fork = await forked();
  await sh(stack, fork, 'echo fork > /srv/app/changes');
  await sh(stack, parent, 'echo parent > /srv/app/mine');
  expect(await diff({ name: fork.name, at: 'base' }, now(fork))).toEqual(['changed srv/app/changes']);
  await api(stack).store(fork.name);
  expect(await diff(now(parent), now(fork))).toEqual(['changed srv/app/changes', 'removed srv/app/mine']);
});

it('merges a fork back where nothing is in the way, and says what is', { timeout: 180_000 }, async () => {
  const { merge, restore } = api(stack);
  await sh(
    stack,
    parent,
    'mkdir -p /srv/m/gone && cd /srv/m && echo base > both && echo base > theirs && touch gone/file',
  );
  const fork = await forked();
  await sh(
    stack,
    fork,
    'cd /srv/m && echo fork > both && echo fork > theirs && rm -r gone && mkdir -p new/deep && echo new > new/deep/file && ln -s theirs new/link && chmod 751 new',
  );
  await sh(stack, parent, 'cd /srv/m && echo parent > both && cat theirs && ls gone');
  const into = { fork: fork.name, into: parent.name };
  const refused = await merge(into);
  expect([refused.isMerged, refused.conflicts, refused.before]).toMatchObject([
    false,
    [{ why: 'both-changed', path: 'srv/m/both' }],
    undefined,
  ]);
  expect(refused.left).toContain('etc/machine-id');
  const show = 'cd /srv/m; cat both theirs; ls; stat -c %a new; readlink new/link; cat new/deep/file';
  expect((await sh(stack, parent, show)).stdout).toBe('parent\nbase\nboth\ngone\ntheirs\n');

  const machine = (await sh(stack, parent, 'cat /etc/machine-id /etc/hostname')).stdout;
  const done = await merge({ ...into, settle: 'fork' });
  expect([done.isMerged, done.conflicts]).toEqual([true, []]);
  expect(done.steps.map(({ what, path }) => `${what} ${path}`)).toEqual([
    'changed srv/m/both',
    'removed srv/m/gone',
    'added srv/m/new',
    'changed srv/m/theirs',
  ]);
  expect((await sh(stack, parent, show)).stdout).toBe('fork\nfork\nboth\nnew\ntheirs\n751\ntheirs\nnew\n');
  expect([
    (await sh(stack, parent, 'cat /etc/machine-id /etc/hostname; ls -A / | grep -c torpor-merge')).stdout,
  ]).toEqual([`${machine}0\n`]);
  expect((await merge(into)).steps).toEqual([]);

  // What was there is kept.
  await restore(parent.name, done.before?.image ?? 'none');
  expect((await sh(stack, parent, 'cat /srv/m/both; ls /srv/m')).stdout).toBe('parent\nboth\ngone\ntheirs\n');
});
