// KV namespaces over a store in memory: what an application sees, and what it is told.

import assert from 'node:assert/strict';
import test from 'node:test';

import { KvNamespace } from '../../js-runtime/src/workers/kv.js';
import { memoryStore } from './store.mjs';

const namespace = () => new KvNamespace(memoryStore());
const bytes = (text) => new TextEncoder().encode(text);
const fails = (promise, message) => assert.rejects(promise, { message });

test('values of each kind come back in each form', async () => {
  const kv = namespace();
  const values = {
    text: 'ä€😀',
    number: 7,
    buffer: bytes('ä€😀').buffer,
    view: new DataView(bytes('xä€😀x').buffer, 1, 9),
    stream: new Blob(['ä', '€😀']).stream(),
  };
  for (const [key, value] of Object.entries(values)) await kv.put(key, value);
  for (const key of ['text', 'buffer', 'view', 'stream']) {
    assert.equal(await kv.get(key), 'ä€😀', key);
    assert.equal(await kv.get(key, { type: 'text', cacheTtl: 60 }), 'ä€😀', key);
    assert.deepEqual(new Uint8Array(await kv.get(key, 'arrayBuffer')), bytes('ä€😀'), key);
    assert.equal(await new Response(await kv.get(key, { type: 'stream' })).text(), 'ä€😀', key);
  }
  assert.equal(await kv.get('number', 'json'), 7);
  await kv.put('json', JSON.stringify({ a: [1, null] }));
  assert.deepEqual(await kv.get('json', 'json'), { a: [1, null] });
  await kv.put('empty', '');
  assert.deepEqual([await kv.get('empty'), (await kv.get('empty', 'arrayBuffer')).byteLength], ['', 0]);
  await kv.put('binary', Uint8Array.of(0, 255, 128));
  assert.deepEqual(new Uint8Array(await kv.get('binary', 'arrayBuffer')), Uint8Array.of(0, 255, 128));
  for (const type of ['text', 'json', 'arrayBuffer', 'stream']) assert.equal(await kv.get('none', type), null, type);
});

test('several keys are one question', async () => {
  const store = memoryStore();
  let asked = 0;
  const kv = new KvNamespace({ ...store, get: (keys) => ((asked += 1), store.get(keys)) });
  await kv.put('a', '1', { metadata: { m: 1 } });
  await kv.put('b', '2');
  assert.deepEqual([...(await kv.get(['b', 'none', 'a']))], [['b', '2'], ['none', null], ['a', '1']]);
  assert.deepEqual([...(await kv.get(['a'], 'json'))], [['a', 1]]);
  const all = await kv.getWithMetadata(['a', 'none'], { type: 'json' });
  assert.deepEqual(all.get('a'), { value: 1, metadata: { m: 1 }, cacheStatus: null });
  assert.deepEqual(all.get('none'), { value: null, metadata: null, cacheStatus: null });
  assert.equal(asked, 3);
  assert.equal((await kv.get([])).size, 0);
  await fails(kv.get(Array(101).fill('a')), 'KV GET_BULK failed: You can request a maximum of 100 keys');
  await fails(kv.get(['a'], 'stream'), /"stream" is not a type for several keys/);
});

test('metadata comes with the value, and goes with the next one', async () => {
  const kv = namespace();
  await kv.put('a', '1', { metadata: { by: 'me', n: [1] } });
  assert.deepEqual(await kv.getWithMetadata('a'), { value: '1', metadata: { by: 'me', n: [1] }, cacheStatus: null });
  await kv.put('a', '2');
  assert.deepEqual(await kv.getWithMetadata('a'), { value: '2', metadata: null, cacheStatus: null });
  await kv.put('a', '3', { metadata: 'x'.repeat(1022) });
  await fails(kv.put('a', '4', { metadata: 'x'.repeat(1023) }), 'KV PUT failed: Metadata size of 1025 exceeds limit of 1024.');
  await fails(kv.put('a', '4', { metadata: () => {} }), /no form in JSON/);
  assert.equal(await kv.get('a'), '3');
});

test('entries expire', async () => {
  const store = memoryStore();
  const kv = new KvNamespace(store);
  const inSeconds = (key) => Math.round((store.entries.get(key).expiresAt - Date.now()) / 1000);
  await kv.put('ttl', '1', { expirationTtl: 60 });
  await kv.put('at', '1', { expiration: Math.ceil(Date.now() / 1000) + 120 });
  await kv.put('both', '1', { expiration: 1, expirationTtl: '90' });
  assert.deepEqual([inSeconds('ttl'), inSeconds('both')], [60, 90]);
  assert.ok(Math.abs(inSeconds('at') - 120) <= 1);
  await kv.put('ttl', '1');
  assert.equal(store.entries.get('ttl').expiresAt, null);
  for (const wrong of [0, -1, 1.5, 'soon']) {
    await fails(kv.put('a', '1', { expirationTtl: wrong }), `KV PUT failed: Invalid expiration_ttl of ${wrong}. Please specify integer greater than 0.`);
  }
  await fails(kv.put('a', '1', { expiration: 1000 }), /Invalid expiration of 1000/);
  assert.equal(await kv.get('a'), null);
});

test('what cannot be a key, a value or a type', async () => {
  const kv = namespace();
  await fails(kv.get(''), 'Key name cannot be empty.');
  for (const key of ['.', '..']) await fails(kv.put(key, ''), /is not allowed as a key name/);
  await kv.put('ä'.repeat(256), 'longest');
  assert.equal(await kv.get('ä'.repeat(256)), 'longest');
  await fails(kv.delete('ä'.repeat(257)), 'KV DELETE failed: UTF-8 encoded length of 514 exceeds key length limit of 512.');
  for (const value of [undefined, null, {}, [], () => {}]) await fails(kv.put('a', value), /accepts only strings/);
  await fails(kv.get('a', 'xml'), /Unknown response type/);
  await fails(kv.get('a', { type: 'toString' }), /Unknown response type/);
  await kv.put('a', '{');
  await assert.rejects(kv.get('a', 'json'), SyntaxError);
  await fails(kv.put('a', new ReadableStream({ start: (controller) => (controller.enqueue('text'), controller.close()) })), /made of Uint8Arrays/);
});

test('a value has 4 MiB at most, and a stream is left where it has more', async () => {
  const kv = namespace();
  const most = 4 * 1024 * 1024;
  await kv.put('a', new Uint8Array(most));
  assert.equal((await kv.get('a', 'arrayBuffer')).byteLength, most);
  await fails(kv.put('a', 'x'.repeat(most + 1)), /^KV PUT failed: Value length of 4194305 exceeds limit of 4194304: stores take values of up to 4 MiB/);
  let isLeft = false;
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1 << 20)), cancel: () => void (isLeft = true) });
  await fails(kv.put('a', endless), /^KV PUT failed: Value length exceeds limit/);
  assert.ok(isLeft);
  assert.equal((await kv.get('a', 'arrayBuffer')).byteLength, most);
});

test('pages of a list, in the order of their bytes, with cursors that fit into a URL', async () => {
  const kv = namespace();
  const names = ['a', 'b/1', 'b/ä', 'b/😀', 'b/\u{ffff}', 'c'];
  for (const name of names) await kv.put(name, '1', name === 'c' ? { metadata: { c: 1 }, expirationTtl: 60 } : {});
  const all = await kv.list();
  assert.deepEqual(all.keys.slice(0, 5), ['a', 'b/1', 'b/ä', 'b/\u{ffff}', 'b/😀'].map((name) => ({ name })));
  const { expiration, ...last } = all.keys[5];
  assert.deepEqual([last, all.list_complete, all.cacheStatus, 'cursor' in all], [{ name: 'c', metadata: { c: 1 } }, true, null, false]);
  assert.ok(Math.abs(expiration - Date.now() / 1000 - 60) < 2);
  const found = [];
  let cursor;
  for (let pages = 0; pages < 5; pages++) {
    const page = await kv.list({ prefix: 'b/', limit: 2, cursor });
    found.push(...page.keys.map(({ name }) => name));
    if (page.list_complete) break;
    ({ cursor } = page);
    assert.match(cursor, /^[-_0-9A-Za-z]+$/);
  }
  assert.deepEqual(found, ['b/1', 'b/ä', 'b/\u{ffff}', 'b/😀']);
  assert.deepEqual((await kv.list({ prefix: 'none', cursor: '', limit: null })).keys, []);
  for (const limit of [0, -1, 1.5, 'a']) await fails(kv.list({ limit }), /Invalid key_count_limit/);
  await fails(kv.list({ limit: 1001 }), 'KV GET failed: Invalid key_count_limit of 1001. Please specify an integer less than or equal to 1000.');
  await fails(kv.list({ cursor: '%%' }), /Invalid cursor/);
  await kv.delete('c');
  assert.equal(await kv.get('c'), null);
});

test('what the host refuses is told as it says it', async () => {
  const refuse = () => {
    throw new Error('the store `A` is not granted');
  };
  const kv = new KvNamespace({ get: refuse, set: refuse, delete: refuse, list: refuse });
  await fails(kv.get('a'), 'KV GET failed: the store `A` is not granted');
  await fails(kv.get(['a']), 'KV GET_BULK failed: the store `A` is not granted');
  await fails(kv.put('a', ''), 'KV PUT failed: the store `A` is not granted');
  await fails(kv.delete('a'), 'KV DELETE failed: the store `A` is not granted');
  await fails(kv.list(), 'KV GET failed: the store `A` is not granted');
});
