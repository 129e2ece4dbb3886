// `caches` as Workers has it: responses in the host's store `cache`, by HTTP's rules (`cache-rules.js`). Who asks for it by
// `match` gets fresh responses only.
//
// A response's key in the store is the name of its cache, its URL, and which variant it is, each with a line feed behind it. Where
// a response has Vary, the key without a variant has the names of the fields. A value is a line of JSON, and the body. URLs and variants
// are told apart by hashes in keys, and by all of their text in values: clients could find two texts with one hash.

import { headersOf, listOfHeaders } from '../fields.js';
import { INNER, shape } from '../shape.js';
import { isKnown, keeping, rangeOf, variantOf, variesOn } from './cache-rules.js';
import { collected } from './collected.js';
import { VALUE_BYTES_MAX } from './kv.js';

export const STORE = 'cache';
// Longer ones are told apart by a hash; the line of JSON has the URL.
const KEY_UNITS_MAX = 300;
const DELETED_AT_ONCE = 500;
const NAME = /^[^\n]{1,64}$/;
// What a 304 says of the response (RFC 9110, section 15.4.5).
const OF_304 = new Set(['cache-control', 'content-location', 'date', 'etag', 'expires', 'vary', 'age', 'cf-cache-status']);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// FNV-1a in 64 bits. Of two URLs with one hash the later has the place.
function hashOf(text) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of encoder.encode(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash.toString(16);
}

const short = (text) => (text.length * 3 <= KEY_UNITS_MAX && !text.startsWith('#') ? text : `#${hashOf(text)}`);

function requestOf(given) {
  const request = given instanceof Request ? given : new Request(given);
  const { protocol } = new URL(request.url);
  if (protocol !== 'http:' && protocol !== 'https:') throw new TypeError(`a cache has responses of http: and https:, not ${protocol}`);
  return request;
}

const urlOf = (request) => request.url.replace(/#[^]*$/, '');

function written(head, body) {
  const line = encoder.encode(`${JSON.stringify(head)}\n`);
  const bytes = new Uint8Array(line.length + body.length);
  bytes.set(line);
  bytes.set(body, line.length);
  return bytes;
}

// { head, body } of a value, if it is of this URL and of this variant.
function read(entry, url, variant) {
  if (entry === null) return null;
  const end = entry.value.indexOf(10);
  const head = JSON.parse(decoder.decode(entry.value.subarray(0, end)));
  return head.url === url && head.variant === variant ? { head, body: entry.value.subarray(end + 1) } : null;
}

// What a request gets of a response that is kept; `made` makes a Response of its parts.
function answered(request, { head, body }, made) {
  const age = Math.max(0, Math.floor(head.age + (Date.now() - head.at) / 1000));
  const list = [...head.list, 'age', String(age), 'cf-cache-status', 'HIT'];
  const headers = headersOf(list);
  const parts = { status: head.status, statusText: head.statusText, list, body: body.length === 0 ? null : body };
  if (head.status !== 200) return made(parts);
  if (isKnown(request.headers, headers)) {
    return made({ status: 304, statusText: 'Not Modified', list: list.filter((_, index) => OF_304.has(list[index & ~1])), body: null });
  }
  const range = rangeOf(request.headers, headers, body.length);
  if (range === null) return made(parts);
  const others = list.filter((_, index) => list[index & ~1] !== 'content-length');
  if (range === 'unsatisfiable') {
    return made({ status: 416, statusText: 'Range Not Satisfiable', list: [...others, 'content-range', `bytes */${body.length}`], body: null });
  }
  const { from, to } = range;
  return made({
    status: 206,
    statusText: 'Partial Content',
    list: [...others, 'content-range', `bytes ${from}-${to - 1}/${body.length}`, 'content-length', String(to - from)],
    body: body.slice(from, to),
  });
}

export class Cache {
  // `store` as in `entries.js`; `made` makes a Response of { status, statusText, list, body }.
  constructor(name, store, made) {
    this[INNER] = { name, store, made };
  }

  async match(given, options) {
    const { name, store, made } = this[INNER];
    const request = requestOf(given);
    if (request.method !== 'GET' && !options?.ignoreMethod) return undefined;
    const url = urlOf(request);
    const key = `${name}\n${short(url)}\n`;
    let found = read(store.get([key])[0], url);
    if (found?.head.vary !== undefined) {
      const variant = variantText(found.head.vary, request.headers);
      found = read(store.get([`${key}${hashOf(variant)}`])[0], url, variant);
    }
    return found === null ? undefined : answered(request, found, made);
  }

  async put(given, response) {
    const { name, store } = this[INNER];
    const request = requestOf(given);
    if (!(response instanceof Response)) throw new TypeError('what is put into a cache is a Response');
    const { status, statusText, headers } = response;
    if (request.method !== 'GET') throw new TypeError(`Cannot cache response to non-GET request (${request.method}).`);
    if (status === 206) throw new TypeError('Cannot cache response to a range request (206 Partial Content).');
    if (status < 200) throw new TypeError('Cannot cache a network error.');
    const vary = variesOn(headers.get('vary'));
    if (vary === null) throw new TypeError("Cannot cache response with 'Vary: *' header.");
    if (response.bodyUsed || response.body?.locked) throw new TypeError('the body was used already, or is locked');
    const at = Date.now();
    const kept = keeping(request.headers, status, headers, at);
    if (kept === null) {
      // Nobody waits for it: of two branches of a stream, one is given up only with the other.
      response.body?.cancel().catch(() => {});
      return;
    }
    const url = urlOf(request);
    const list = listOfHeaders(headers).filter((_, index, all) => {
      const field = all[index & ~1];
      return field !== 'age' && field !== 'cf-cache-status' && !kept.without.has(field);
    });
    const variant = vary.length === 0 ? undefined : variantText(vary, request.headers);
    const head = { url, variant, status, statusText, list, at, age: kept.age };
    const most = VALUE_BYTES_MAX - encoder.encode(JSON.stringify(head)).length - 1;
    const body = response.body === null ? new Uint8Array(0) : await collected(response.body, most);
    if (body === null) {
      console.warn(`caches: the response of ${url.slice(0, 500)} is not kept: it has more than 4 MiB`);
      return;
    }
    const key = `${name}\n${short(url)}\n`;
    const ttl = Math.ceil(kept.seconds * 1000);
    if (variant === undefined) return void store.set(key, written(head, body), null, ttl);
    store.set(`${key}${hashOf(variant)}`, written(head, body), null, ttl);
    return void store.set(key, written({ url, vary }, new Uint8Array(0)), null, ttl);
  }

  // With all its variants; whether there was one.
  async delete(given, options) {
    const { name, store } = this[INNER];
    const request = requestOf(given);
    if (request.method !== 'GET' && !options?.ignoreMethod) return false;
    const prefix = `${name}\n${short(urlOf(request))}\n`;
    let isFound = false;
    for (let after = null; ; ) {
      const { keys, next } = store.list(prefix, after, DELETED_AT_ONCE);
      isFound ||= keys.length > 0;
      if (keys.length > 0) store.delete(keys.map((key) => key.name));
      if (next === null) return isFound;
      after = next;
    }
  }
}
shape(Cache, 'Cache');

const variantText = (names, headers) => `${names.join('\n')}\n${variantOf(names, headers)}`;

export class CacheStorage {
  constructor(store, made) {
    this[INNER] = { store, made, default: new Cache('default', store, made) };
  }

  get default() {
    return this[INNER].default;
  }

  async open(given) {
    const name = `${given}`;
    if (!NAME.test(name)) throw new TypeError('the name of a cache has 1 to 64 characters');
    const { store, made } = this[INNER];
    // So that no name is that of the default one.
    return new Cache(`=${name}`, store, made);
  }
}
shape(CacheStorage, 'CacheStorage');
