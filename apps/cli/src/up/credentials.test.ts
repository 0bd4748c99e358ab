import { expect, it } from 'vitest';
import { turnedTo } from './credentials.ts';

const main = { url: 'http://127.0.0.1:1', workspace: 'main', apiKey: 'key of main' };

it('turns to a new workspace and back, with no new key', () => {
  const second = turnedTo('second', main, 'key of second');
  expect(second).toMatchObject({ workspace: 'second', apiKey: 'key of second' });
  const third = turnedTo('third', second, 'key of third');
  const back = turnedTo('main', third);
  expect(back).toMatchObject({ workspace: 'main', apiKey: 'key of main', url: main.url });
  expect(turnedTo('second', back)).toMatchObject({ workspace: 'second', apiKey: 'key of second' });
  expect(
    turnedTo('second', back)
      .keptKeys?.map(({ workspace }) => workspace)
      .sort(),
  ).toEqual(['main', 'third']);
});

it('stays where it is when no key of the workspace is kept', () => {
  expect(turnedTo('constructor', main)).toBe(main);
  expect(turnedTo('main', main)).toBe(main);
});

it('goes by the newer key of the same workspace, and forgets the older', () => {
  expect(turnedTo('main', main, 'newer')).toEqual({ ...main, apiKey: 'newer', keptKeys: [] });
});
