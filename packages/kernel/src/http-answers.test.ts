import { expect, it } from 'vitest';
import { AnswerParser, type AnswerHead } from './http-answers.ts';

function read(pieces: readonly string[], method = 'GET') {
  const heads: AnswerHead[] = [];
  let body = '';
  const ends: boolean[] = [];
  const parser = new AnswerParser({
    onHead: (head) => void heads.push(head),
    onData: (chunk) => (body += chunk.toString('latin1')),
    onEnd: (reusable) => void ends.push(reusable),
  });
  parser.expect(method);
  for (const piece of pieces) parser.take(Buffer.from(piece, 'latin1'));
  return { heads, body, ends, parser };
}

const CHUNKED =
  'HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n3\r\nabc\r\n5;x=y\r\n\r\n123\r\n0\r\nt: 1\r\n\r\n';
const SIZED = 'HTTP/1.1 201 Created\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello';

it.each([
  [CHUNKED, 200, 'abc\r\n123', true],
  [SIZED, 201, 'hello', false],
])('reads the same however the bytes are cut', (text, status, body, reusable) => {
  for (let cut = 1; cut < text.length; cut++) {
    const got = read([text.slice(0, cut), text.slice(cut)]);
    expect([got.heads.map((head) => head.status), got.body, got.ends]).toEqual([[status], body, [reusable]]);
  }
  const single = read([...text]);
  expect([single.body, single.ends]).toEqual([body, [reusable]]);
});

it('keeps every value of a name that comes twice', () => {
  expect(read([CHUNKED]).heads[0]?.headers['set-cookie']).toEqual(['a', 'b']);
});

it.each([
  ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'],
  ['GET', 'HTTP/1.1 204 No Content\r\n\r\n'],
  ['GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n'],
  ['GET', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
])('knows that an answer to %s has no body: %j', (method, text) => {
  expect(read([text], method).ends).toEqual([true]);
});

it('reads to the end of the connection where nothing else says where the body ends', () => {
  const got = read(['HTTP/1.1 200 OK\r\n\r\n', 'to the ', 'end']);
  expect(got.ends).toEqual([]);
  expect([got.parser.close(), got.body, got.ends]).toEqual([true, 'to the end', [false]]);
});

it.each([
  'HELLO\r\n\r\n',
  'HTTP/1.1 999 What\r\n\r\n',
  'HTTP/1.1 200 OK\r\nno colon\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab',
  `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(200_000)}`,
])('refuses %j', (text) => {
  expect(() => read([text])).toThrow(/ /);
});
