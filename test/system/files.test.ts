/** Files of a sandbox and its fork, compared between points of their lives on the true stack, through the CLI and the API. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api, type Point } from '../bench/lib/api.ts';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import { torpor, type Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { freshName, testStack } from './test-stack.ts';

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
    const said = await torpor(['diff', `${parent.name}@one`, `${parent.name}@two`, '--under', '/srv/app'], process.env);
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
