import { expect, it } from 'vitest';
import { NodeAgentConfig } from './rooms.ts';

it.each(['10.83.1.0/24', '10.83.0.0', '10.830.0.0/16', '10.83.0.0/16 ', 'fd00::/16', ''])(
  'a subnet of "%s" is refused, saying what one is',
  (subnet) => {
    const { error } = NodeAgentConfig.safeParse({ driver: { kind: 'gvisor', subnet } });
    const told = error?.issues.filter(({ path }) => path.join('.') === 'driver.subnet').map(({ message }) => message);
    expect(new Set(told)).toEqual(new Set(['must be a /16 of IPv4 addresses, such as 10.83.0.0/16']));
  },
);

it('a /16 is taken', () => {
  const { error } = NodeAgentConfig.safeParse({ driver: { kind: 'gvisor', subnet: '10.83.0.0/16' } });
  expect(error?.issues.some(({ path }) => path.includes('subnet'))).toBe(false);
});
