// What a cache keeps, and for how long: RFC 9111, as Workers applies it.

import assert from 'node:assert/strict';
import test from 'node:test';

import { directivesOf, isKnown, keeping, rangeOf, variantOf, variesOn } from '../../js-runtime/src/workers/cache-rules.js';

const NOW = Date.parse('2026-11-29T12:00:00Z');
const http = (ms) => new Date(ms).toUTCString();

// For how many seconds a response of these header fields is kept; null: it is not.
const seconds = (fields, { status = 200, request = {} } = {}) =>
  keeping(new Headers(request), status, new Headers(fields), NOW)?.seconds ?? null;
const of = (control, more) => seconds({ 'cache-control': control }, more);

test('directives have names in any case, quotes, commas within them, and the first of a name counts', () => {
  const directives = directivesOf('Max-Age=5, private="set-cookie, x-\\"a" ,, max-age=7, s-maxage="9",no-store');
  assert.deepEqual([...directives], [['max-age', '5'], ['private', 'set-cookie, x-"a'], ['s-maxage', '9'], ['no-store', null]]);
  assert.equal(directivesOf(null).size, 0);
});

test('what forbids a shared cache to keep a response', () => {
  for (const control of ['no-store', 'private', 'no-cache', 'max-age=60, no-store', 'private, max-age=60', 'max-age=0', 's-maxage=0, max-age=60']) {
    assert.equal(of(control), null, control);
  }
  assert.equal(of('max-age=60', { status: 304 }), null);
  assert.equal(seconds({ 'cache-control': 'max-age=60', 'set-cookie': 'a=1' }), null);
  assert.equal(seconds({ 'cache-control': 'max-age=60', 'set-cookie': 'a=1' }, { status: 404 }), null);
});

test('restrictions to fields leave these out', () => {
  const kept = keeping(new Headers(), 200, new Headers({ 'cache-control': 'private="Set-Cookie", no-cache="x-a, x-b", max-age=60', 'set-cookie': 'a=1' }), NOW);
  assert.deepEqual([kept.seconds, [...kept.without]], [60, ['set-cookie', 'x-a', 'x-b']]);
});

test('a response to a request with credentials is kept where it says so', () => {
  const request = { authorization: 'Basic eA==' };
  assert.equal(of('max-age=60', { request }), null);
  for (const control of ['public, max-age=60', 's-maxage=60', 'must-revalidate, max-age=60']) assert.equal(of(control, { request }), 60, control);
});

test('s-maxage goes before max-age, and that before Expires', () => {
  assert.equal(of('max-age=60, s-maxage=90'), 90);
  assert.equal(seconds({ 'cache-control': 'max-age=60', expires: http(NOW + 5000) }), 60);
  assert.equal(seconds({ expires: http(NOW + 5000) }), 5);
  assert.equal(seconds({ expires: http(NOW + 5000), date: http(NOW - 3000) }), 5);
  for (const expires of ['0', 'never', http(NOW), http(NOW - 1000)]) assert.equal(seconds({ expires }), null, expires);
  for (const wrong of ['max-age=abc', 'max-age=-1', 'max-age', 'max-age=1.5']) assert.equal(of(wrong), null, wrong);
});

test('the age that a response comes with shortens it', () => {
  assert.equal(seconds({ 'cache-control': 'max-age=60', age: '20' }), 40);
  assert.equal(seconds({ 'cache-control': 'max-age=60', date: http(NOW - 10_000) }), 50);
  assert.equal(seconds({ 'cache-control': 'max-age=60', date: http(NOW - 10_000), age: '30' }), 30);
  assert.equal(seconds({ 'cache-control': 'max-age=60', age: '60' }), null);
});

test('a response without a word of it is kept by its status', () => {
  const found = [200, 301, 302, 303, 307, 404, 410, 500].map((status) => seconds({}, { status }));
  assert.deepEqual(found, [7200, 7200, 1200, 1200, null, 180, 180, null]);
  assert.equal(of('max-age=5', { status: 500 }), 5);
});

test('requests that differ in a field of Vary get different responses', () => {
  assert.deepEqual(variesOn('Accept-Language, accept , ACCEPT'), ['accept', 'accept-language']);
  assert.deepEqual([variesOn(null), variesOn('a, *'), variesOn('*')], [[], null, null]);
  const variant = (headers) => variantOf(['accept', 'x-a'], new Headers(headers));
  assert.notEqual(variant({ accept: 'a' }), variant({ accept: 'b' }));
  assert.notEqual(variant({ accept: 'a' }), variant({ 'x-a': 'a' }));
  assert.equal(variant({ accept: 'a', other: '1' }), variant({ accept: 'a', other: '2' }));
});

test('a client that has the response is told so', () => {
  const headers = new Headers({ etag: '"a"', 'last-modified': http(NOW) });
  const known = (fields) => isKnown(new Headers(fields), headers);
  for (const tags of ['"a"', 'W/"a"', '"b", "a"', '*']) assert.equal(known({ 'if-none-match': tags }), true, tags);
  for (const tags of ['"b"', 'a', '']) assert.equal(known({ 'if-none-match': tags }), false, tags);
  assert.equal(known({ 'if-modified-since': http(NOW) }), true);
  assert.equal(known({ 'if-modified-since': http(NOW - 1000) }), false);
  assert.equal(known({ 'if-modified-since': 'soon' }), false);
  assert.equal(known({ 'if-none-match': '"b"', 'if-modified-since': http(NOW) }), false);
  assert.equal(isKnown(new Headers({ 'if-none-match': '"a"' }), new Headers()), false);
});

test('parts of a response', () => {
  const headers = new Headers({ etag: '"a"', 'last-modified': http(NOW) });
  const range = (asked, condition) => rangeOf(new Headers({ range: asked, ...(condition === undefined ? {} : { 'if-range': condition }) }), headers, 10);
  assert.deepEqual(range('bytes=0-3'), { from: 0, to: 4 });
  assert.deepEqual(range('bytes=4-'), { from: 4, to: 10 });
  assert.deepEqual(range('bytes=4-99'), { from: 4, to: 10 });
  assert.deepEqual(range('bytes=-3'), { from: 7, to: 10 });
  assert.deepEqual(range('bytes=-30'), { from: 0, to: 10 });
  for (const none of ['bytes=10-', 'bytes=-0']) assert.equal(range(none), 'unsatisfiable', none);
  for (const all of ['bytes=3-2', 'bytes=-', 'bytes=0-1,3-4', 'lines=1-2', '']) assert.equal(range(all), null, all);
  for (const condition of ['"a"', http(NOW)]) assert.deepEqual(range('bytes=0-3', condition), { from: 0, to: 4 });
  for (const condition of ['"b"', 'W/"a"', http(NOW - 1000)]) assert.equal(range('bytes=0-3', condition), null);
  const weak = 'W/"a"';
  assert.equal(rangeOf(new Headers({ range: 'bytes=0-3', 'if-range': weak }), new Headers({ etag: weak }), 10), null);
});
