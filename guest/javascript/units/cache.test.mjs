// `caches` over a store in memory.

import assert from 'node:assert/strict';
import test from 'node:test';

import { CacheStorage } from '../../js-runtime/src/workers/cache.js';
import { memoryStore } from './store.mjs';

const made = ({ list, ...init }) => {
  const headers = new Headers();
  for (let index = 0; index < list.length; index += 2) headers.append(list[index], list[index + 1]);
  return new Response(init.body, { ...init, headers });
};

function storage() {
  const store = memoryStore();
  return { store, caches: new CacheStorage(store, made) };
}

const URL_A = 'https://example.test/a?b=1';
const FRESH = { 'cache-control': 'max-age=60' };
const response = (body = 'x', headers = FRESH, status = 200) => new Response(body, { status, headers });

test('a response that was put is there for the same URL', async () => {
  const { caches, store } = storage();
  const cache = caches.default;
  assert.equal(await cache.match(URL_A), undefined);
  await cache.put(new Request(`${URL_A}#part`, { headers: { 'x-any': '1' } }), response('body', { ...FRESH, 'x-a': 'ä', age: '7' }));
  const found = await cache.match(new Request(URL_A));
  assert.deepEqual([found.status, await found.text(), found.headers.get('x-a')], [200, 'body', 'ä']);
  assert.deepEqual([found.headers.get('age'), found.headers.get('cf-cache-status')], ['7', 'HIT']);
  assert.equal(await cache.match('https://example.test/a'), undefined);
  const [{ expiresAt }] = store.entries.values();
  assert.ok(Math.abs(expiresAt - Date.now() - 53_000) < 2000);
  await cache.put(URL_A, response('second', { ...FRESH }, 404));
  assert.deepEqual([(await cache.match(URL_A)).status, store.entries.size], [404, 1]);
});

test('binary bodies, empty ones, and one of a stream', async () => {
  const { caches } = storage();
  await caches.default.put(URL_A, response(Uint8Array.of(0, 10, 255, 10)));
  assert.deepEqual([...new Uint8Array(await (await caches.default.match(URL_A)).arrayBuffer())], [0, 10, 255, 10]);
  await caches.default.put(URL_A, response(null));
  assert.equal(await (await caches.default.match(URL_A)).text(), '');
  await caches.default.put(URL_A, response(new Blob(['ab', 'c']).stream()));
  assert.equal(await (await caches.default.match(URL_A)).text(), 'abc');
});

test('what is no response for a cache is refused, and what is not to be kept is not', async () => {
  const { caches, store } = storage();
  const cache = caches.default;
  const used = response('x', { 'cache-control': 'no-store' });
  await used.text();
  for (const [request, given, message] of [
    [new Request(URL_A, { method: 'POST' }), response(), /non-GET request \(POST\)/],
    [URL_A, response('x', FRESH, 206), /range request/],
    [URL_A, response('x', { ...FRESH, vary: 'accept, *' }), /'Vary: \*'/],
    [URL_A, Response.error(), /network error/],
    [URL_A, 'text', /is a Response/],
    ['data:,a', response(), /not data:/],
    [URL_A, used, /used already/],
  ]) {
    await assert.rejects(cache.put(request, given), { name: 'TypeError', message });
  }
  for (const headers of [{ 'cache-control': 'no-store' }, { ...FRESH, 'set-cookie': 'a=1' }, { 'cache-control': 'private' }]) {
    // Of a clone, whose other branch nobody reads.
    const given = response('x', headers);
    given.clone();
    await cache.put(URL_A, given);
  }
  assert.equal(store.entries.size, 0);
  await cache.put(URL_A, response('x', { 'cache-control': 'max-age=60, private=set-cookie', 'set-cookie': 'a=1' }));
  const found = await cache.match(URL_A);
  assert.deepEqual([found.status, found.headers.has('set-cookie')], [200, false]);
});

test('a response that is too large is not kept, and its stream is left', async () => {
  const { caches, store } = storage();
  let isLeft = false;
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1 << 20)), cancel: () => void (isLeft = true) });
  await caches.default.put(URL_A, response(endless));
  assert.deepEqual([store.entries.size, isLeft], [0, true]);
});

test('variants by Vary, of which a deletion takes all', async () => {
  const { caches, store } = storage();
  const cache = caches.default;
  const asked = (language) => new Request(URL_A, { headers: language === null ? {} : { 'accept-language': language } });
  for (const language of ['de', 'fr', null]) {
    await cache.put(asked(language), response(`${language}`, { ...FRESH, vary: 'Accept-Language' }));
  }
  for (const language of ['de', 'fr', null]) assert.equal(await (await cache.match(asked(language))).text(), `${language}`);
  assert.equal(await cache.match(asked('it')), undefined);
  assert.equal(await cache.delete(URL_A), true);
  assert.deepEqual([store.entries.size, await cache.delete(URL_A)], [0, false]);
  await cache.put(asked('it'), response('it', { ...FRESH, vary: 'Accept-Language' }));
  assert.equal(await cache.match(asked('de')), undefined);
});

test('conditions and parts', async () => {
  const { caches } = storage();
  const cache = caches.default;
  const etag = '"1"';
  await cache.put(URL_A, response('0123456789', { ...FRESH, etag, 'content-type': 'text/plain', 'content-length': '10' }));
  const ask = (headers) => cache.match(new Request(URL_A, { headers }));
  const known = await ask({ 'if-none-match': etag });
  assert.deepEqual([known.status, known.headers.get('etag'), known.headers.has('content-type'), await known.text()], [304, etag, false, '']);
  const part = await ask({ range: 'bytes=2-4' });
  assert.deepEqual(
    [part.status, await part.text(), part.headers.get('content-range'), part.headers.get('content-length')],
    [206, '234', 'bytes 2-4/10', '3'],
  );
  const beyond = await ask({ range: 'bytes=10-' });
  assert.deepEqual([beyond.status, beyond.headers.get('content-range')], [416, 'bytes */10']);
  assert.equal((await ask({ range: 'bytes=2-4', 'if-none-match': etag })).status, 304);
  assert.equal((await ask({ range: 'bytes=2-4', 'if-range': '"2"' })).status, 200);
});

test('other methods are others', async () => {
  const { caches } = storage();
  const cache = caches.default;
  await cache.put(URL_A, response());
  const head = new Request(URL_A, { method: 'HEAD' });
  assert.equal(await cache.match(head), undefined);
  assert.equal((await cache.match(head, { ignoreMethod: true })).status, 200);
  assert.equal(await cache.delete(head), false);
  assert.equal(await cache.delete(head, { ignoreMethod: true }), true);
});

test('caches with names, and URLs of any length, are told apart', async () => {
  const { caches, store } = storage();
  const [one, other] = [await caches.open('one'), await caches.open('default')];
  const long = (end) => `https://example.test/${'x'.repeat(3000)}${end}`;
  for (const [cache, text] of [[caches.default, '0'], [one, '1'], [other, '2']]) {
    await cache.put(URL_A, response(text));
    await cache.put(long('a'), response(`${text}a`));
    await cache.put(long('b'), response(`${text}b`));
  }
  for (const [cache, text] of [[caches.default, '0'], [one, '1'], [other, '2']]) {
    const texts = await Promise.all([URL_A, long('a'), long('b')].map(async (url) => (await cache.match(url)).text()));
    assert.deepEqual(texts, [text, `${text}a`, `${text}b`]);
  }
  for (const key of store.entries.keys()) assert.ok(new TextEncoder().encode(key).length <= 512, key);
  await assert.rejects(caches.open('a\nb'), TypeError);
  // What has the place of another by its hash is not given for it.
  const [key] = [...store.entries.keys()].filter((name) => name.startsWith('default\n#'));
  const { value } = store.entries.get([...store.entries.keys()].filter((name) => name.startsWith('default\n#'))[1]);
  store.set(key, value, null, null);
  const found = await Promise.all([long('a'), long('b')].map((url) => caches.default.match(url)));
  assert.equal(found.filter(Boolean).length, 1);
});
