import { expect, it } from 'vitest';
import { hostAndPort } from './host-and-port.ts';

it.each([
  ['127.0.0.1', '127.0.0.1', 53],
  ['127.0.0.1:5353', '127.0.0.1', 5353],
  ['dns.example:54', 'dns.example', 54],
  ['::1', '::1', 53],
  ['fe80::1:2', 'fe80::1:2', 53],
  ['[::1]', '::1', 53],
  ['[fe80::1%eth0]:5353', 'fe80::1%eth0', 5353],
])('reads %s', (text, host, port) => {
  expect(hostAndPort(text, 53)).toEqual({ host, port });
});

it.each(['', ':53', '[]:53', 'host:port', 'a:b:c'])('refuses %j', (text) => {
  expect(() => hostAndPort(text, 53)).toThrow(/expected host, host:port or \[address\]:port/);
});
