import assert, { AssertionError } from 'node:assert';
import strict from 'node:assert/strict';
import { EventEmitter, getEventListeners, on, once } from 'node:events';
import path, { posix, win32 } from 'node:path';
import querystring from 'node:querystring';
import { Duplex, finished, PassThrough, pipeline, Readable, Transform, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline as piped } from 'node:stream/promises';
import { clearTimeout, setImmediate, setTimeout } from 'node:timers';
import { setTimeout as sleep } from 'node:timers/promises';
import url, { fileURLToPath, pathToFileURL } from 'node:url';
import util, { callbackify, format, inherits, inspect, isDeepStrictEqual, promisify, types } from 'node:util';
import { gunzipSync, gzipSync, inflateSync, deflateSync } from 'node:zlib';

import required from './required.cjs';

function failure(run) {
  try {
    run();
    return null;
  } catch (error) {
    return [error instanceof AssertionError, error.code ?? error.name];
  }
}

export async function asserted() {
  const rejected = await assert.rejects(Promise.reject(new TypeError('x')), TypeError).then(() => 'as expected');
  return {
    rejected,
    failures: [
      () => assert(1),
      () => assert.ok(0),
      () => assert.equal(1, '1'),
      () => strict.equal(1, '1'),
      () => assert.deepStrictEqual({ a: [1, new Map([[1, new Set([2])]])] }, { a: [1, new Map([[1, new Set([2])]])] }),
      () => assert.deepStrictEqual({ a: 1 }, { a: '1' }),
      () => assert.throws(() => { throw new RangeError('r'); }, { name: 'RangeError', message: /r/ }),
      () => assert.match('abc', /b/),
      () => assert.fail('m'),
    ].map(failure),
  };
}

export const called = () => required();

export async function emitted() {
  const emitter = new EventEmitter();
  const heard = [];
  emitter.on('a', (...values) => heard.push(['on', ...values]));
  emitter.prependListener('a', () => heard.push('first'));
  emitter.once('a', () => heard.push('once'));
  const returned = [emitter.emit('a', 1, 2), emitter.emit('a'), emitter.emit('b')];
  const later = once(emitter, 'later');
  emitter.emit('later', 7);
  const values = [];
  queueMicrotask(() => [1, 2].forEach((n) => emitter.emit('n', n)));
  for await (const [value] of on(emitter, 'n')) {
    values.push(value);
    if (value === 2) break;
  }
  return { heard, returned, later: await later, values, counts: [emitter.listenerCount('a'), getEventListeners(emitter, 'a').length], error: failure(() => emitter.emit('error', new RangeError('x'))) };
}

export const placed = () => [
  path.join('/a', '..', 'b', './c.txt'),
  path.resolve('/a/b', '../c'),
  path.relative('/a/b/c', '/a/d'),
  path.parse('/home/x/file.tar.gz'),
  path.format({ dir: '/d', name: 'n', ext: '.e' }),
  path.normalize('/a//b/./c/..'),
  [path.basename('/a/b.js', '.js'), path.extname('.x.y'), path.dirname('/a/b/'), path.isAbsolute('a'), path.sep],
  posix === path.posix && path.posix.join('a', 'b'),
];

export const queried = () => ({
  text: querystring.stringify({ a: ['1', 'ä b'], c: '', d: true }),
  parsed: { ...querystring.parse('a=1&a=%C3%A4+b&c') },
  escaped: querystring.escape('a b&ü'),
});

export async function streamed() {
  const upper = () => new Transform({ transform: (chunk, _, done) => done(null, `${chunk}`.toUpperCase()) });
  const chunks = [];
  const sink = () => new Writable({ write: (chunk, _, done) => { chunks.push(`${chunk}`); done(); } });
  await piped(Readable.from(['a', 'b', 'ä']), upper(), sink());
  const read = [];
  for await (const value of Readable.from([{ n: 1 }, { n: 2 }])) read.push(value.n);
  const failed = await piped(Readable.from(['x']), new Transform({ transform: (_, __, done) => done(new Error('broken')) }), sink()).catch((error) => error.message);
  const through = new PassThrough();
  through.end('passed');
  const called = await new Promise((resolve) => pipeline(Readable.from(['y']), sink(), (error) => resolve(error ?? 'no error')));
  const over = await new Promise((resolve) => finished(Readable.from([]).resume(), () => resolve('finished')));
  return { chunks, read, failed, through: await text(through), called, over, duplex: new Duplex() instanceof Readable };
}

export async function timed() {
  const order = [];
  const number = setTimeout(() => order.push('never'), 1);
  clearTimeout(number);
  setImmediate(() => order.push('immediate'));
  await sleep(5);
  const aborted = await sleep(1000, null, { signal: AbortSignal.abort() }).catch((error) => error.name);
  return { order, value: await sleep(1, 'value'), aborted };
}

export const parsed = () => ({
  legacy: (({ protocol, host, port, pathname, query, hash }) => ({ protocol, host, port, pathname, query, hash }))(url.parse('http://a.example:8080/p?x=1#h')),
  query: { ...url.parse('/p?a=1&b=2', true).query },
  resolved: url.resolve('http://a.example/b/c', '../d'),
  formatted: url.format({ protocol: 'https', hostname: 'a.example', pathname: '/p', query: { x: 1 } }),
  file: [fileURLToPath('file:///a/b%20c'), pathToFileURL('/a b').href],
  same: new url.URL('http://x.example') instanceof URL,
});

class Named {
  #hidden = 1;
  shown = [1, [2, [3, [4]]]];
}

export async function shown() {
  const slow = (value, done) => setTimeout(() => (value === 0 ? done(new Error('zero')) : done(null, value)), 1);
  const later = promisify(slow);
  const back = await new Promise((resolve) => callbackify(async (x) => x + 1)(1, (error, value) => resolve([error, value])));
  function Parent() {}
  function Child() {}
  inherits(Child, Parent);
  return {
    formatted: format('%s %d %i %j %o %%', 'a', 1.5, 2.9, { b: 1 }, [1]),
    inspected: [inspect({ a: 1, b: 'x', c: [null, undefined], d: () => {} }), inspect(new Map([['k', new Set([1])]])), inspect(new Named()), inspect('q\'"')],
    promised: [await later(1), await later(0).catch((error) => error.message)],
    back,
    inherits: new Child() instanceof Parent,
    types: [types.isPromise(Promise.resolve()), types.isDate(new Date()), types.isRegExp(/x/), types.isUint8Array(new Uint8Array()), types.isMap({})],
    equal: [isDeepStrictEqual({ a: [1] }, { a: [1] }), isDeepStrictEqual([1], ['1'])],
    stripped: util.stripVTControlCharacters('\u001b[31mred\u001b[0m'),
    deprecated: util.deprecate((x) => x, 'old')(1),
  };
}

export const zipped = () => {
  const bytes = Buffer.from('content '.repeat(100));
  return [gunzipSync(gzipSync(bytes)).equals(bytes), inflateSync(deflateSync(bytes)).length, gzipSync(bytes).length < 100];
};
