// KV namespaces as Workers has them, over a store of the host (`entries.js`; a test may give another). The host answers within a
// call, so operations are done in the order in which they are asked for.

import { INNER, shape } from '../shape.js';
import { base64url, fromBase64url } from './base64url.js';
import { collected } from './collected.js';

// As Workers has them, but for values: the host's stores take no larger ones.
const KEY_BYTES_MAX = 512;
const METADATA_BYTES_MAX = 1024;
export const VALUE_BYTES_MAX = 4 * 1024 * 1024;
const LIST_KEYS_MAX = 1000;
const BULK_KEYS_MAX = 100;
// A hundred years; what the host counts in milliseconds does not overflow.
const TTL_SECONDS_MAX = 100 * 366 * 86400;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const failed = (operation, reason) => new Error(`KV ${operation} failed: ${reason}`);

// The value in the form that was asked for, of bytes that are ours alone.
const FORMS = {
  text: (bytes) => decoder.decode(bytes),
  json: (bytes) => JSON.parse(decoder.decode(bytes)),
  arrayBuffer: (bytes) => bytes.buffer,
  stream: (bytes) => new Response(bytes).body,
};
const BULK_FORMS = ['text', 'json'];

function formOf(options, isBulk) {
  const type = (typeof options === 'string' ? options : options?.type) ?? 'text';
  if (!Object.hasOwn(FORMS, type)) throw new TypeError('Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".');
  if (isBulk && !BULK_FORMS.includes(type)) throw failed('GET_BULK', `"${type}" is not a type for several keys: take "text" or "json"`);
  return FORMS[type];
}

function keyOf(given, operation) {
  const key = `${given}`;
  if (key === '') throw new TypeError('Key name cannot be empty.');
  if (key === '.' || key === '..') throw new TypeError(`"${key}" is not allowed as a key name.`);
  // A unit is at most three bytes.
  if (key.length * 3 > KEY_BYTES_MAX) {
    const { length } = encoder.encode(key);
    if (length > KEY_BYTES_MAX) throw failed(operation, `UTF-8 encoded length of ${length} exceeds key length limit of ${KEY_BYTES_MAX}.`);
  }
  return key;
}

const tooLarge = (length) =>
  failed('PUT', `Value length${length} exceeds limit of ${VALUE_BYTES_MAX}: stores take values of up to 4 MiB, where Workers takes 25 MiB.`);

const PRIMITIVES = new Set(['string', 'number', 'boolean', 'bigint']);

// The bytes of a value, or a promise of them.
function valueOf(given) {
  if (PRIMITIVES.has(typeof given)) return encoder.encode(`${given}`);
  if (given instanceof ArrayBuffer) return new Uint8Array(given);
  if (ArrayBuffer.isView(given)) return new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  if (given instanceof ReadableStream) return collected(given, VALUE_BYTES_MAX);
  throw new TypeError('KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values.');
}

function seconds(given, name) {
  const number = Number(given);
  if (Number.isInteger(number) && number > 0) return number;
  throw failed('PUT', `Invalid ${name} of ${given}. Please specify integer greater than 0.`);
}

// For how many milliseconds an entry lasts; null: until it is changed.
function ttlOf({ expiration, expirationTtl }) {
  if (expirationTtl !== undefined && expirationTtl !== null) {
    return Math.min(seconds(expirationTtl, 'expiration_ttl'), TTL_SECONDS_MAX) * 1000;
  }
  if (expiration === undefined || expiration === null) return null;
  const left = seconds(expiration, 'expiration') * 1000 - Date.now();
  if (left <= 0) {
    throw failed('PUT', `Invalid expiration of ${expiration}. Please specify integer greater than the current number of seconds since the UNIX epoch.`);
  }
  return Math.min(left, TTL_SECONDS_MAX * 1000);
}

// As JSON; null: there is none.
function metadataOf({ metadata }) {
  if (metadata === undefined || metadata === null) return null;
  const text = JSON.stringify(metadata);
  if (text === undefined) throw failed('PUT', 'Metadata has no form in JSON.');
  const { length } = encoder.encode(text);
  if (length > METADATA_BYTES_MAX) throw failed('PUT', `Metadata size of ${length} exceeds limit of ${METADATA_BYTES_MAX}.`);
  return text;
}

const read = (metadata) => (metadata === null ? null : JSON.parse(metadata));

// What the host says of it: that the store is not granted, or cannot be asked now.
function asked(operation, ask) {
  try {
    return ask();
  } catch (error) {
    throw failed(operation, error.message);
  }
}

// The entries of keys: one for a key alone; a Map for a list, in which `of` makes each value.
function entriesOf(store, given, options, of) {
  const isBulk = Array.isArray(given);
  const form = formOf(options, isBulk);
  if (!isBulk) {
    const key = keyOf(given, 'GET');
    return of(asked('GET', () => store.get([key]))[0], form);
  }
  if (given.length > BULK_KEYS_MAX) throw failed('GET_BULK', `You can request a maximum of ${BULK_KEYS_MAX} keys`);
  const keys = given.map((key) => keyOf(key, 'GET_BULK'));
  const found = asked('GET_BULK', () => store.get(keys));
  return new Map(keys.map((key, index) => [key, of(found[index], form)]));
}

export class KvNamespace {
  constructor(store) {
    this[INNER] = store;
  }

  async get(key, options) {
    return entriesOf(this[INNER], key, options, (entry, form) => (entry === null ? null : form(entry.value)));
  }

  async getWithMetadata(key, options) {
    return entriesOf(this[INNER], key, options, (entry, form) =>
      entry === null
        ? { value: null, metadata: null, cacheStatus: null }
        : { value: form(entry.value), metadata: read(entry.metadata), cacheStatus: null },
    );
  }

  async put(given, value, options) {
    const store = this[INNER];
    const key = keyOf(given, 'PUT');
    const ttl = ttlOf(options ?? {});
    const metadata = metadataOf(options ?? {});
    const made = valueOf(value);
    const bytes = made instanceof Uint8Array ? made : await made;
    if (bytes === null) throw tooLarge('');
    if (bytes.length > VALUE_BYTES_MAX) throw tooLarge(` of ${bytes.length}`);
    asked('PUT', () => store.set(key, bytes, metadata, ttl));
  }

  async delete(given) {
    const store = this[INNER];
    const key = keyOf(given, 'DELETE');
    asked('DELETE', () => store.delete([key]));
  }

  async list(options) {
    const { prefix, limit, cursor } = options ?? {};
    const most = limit === undefined || limit === null ? LIST_KEYS_MAX : Number(limit);
    if (!Number.isInteger(most) || most < 1) throw failed('GET', `Invalid key_count_limit of ${limit}. Please specify an integer greater than 0.`);
    if (most > LIST_KEYS_MAX) {
      throw failed('GET', `Invalid key_count_limit of ${limit}. Please specify an integer less than or equal to ${LIST_KEYS_MAX}.`);
    }
    const after = cursor === undefined || cursor === null || cursor === '' ? null : fromBase64url(`${cursor}`);
    if (after === undefined) throw failed('GET', 'Invalid cursor: take the one that the last page gave.');
    const page = asked('GET', () => this[INNER].list(`${prefix ?? ''}`, after, most));
    const keys = page.keys.map(({ name, expiresAt, metadata }) => ({
      name,
      ...(expiresAt === null ? {} : { expiration: Math.ceil(expiresAt / 1000) }),
      ...(metadata === null ? {} : { metadata: read(metadata) }),
    }));
    if (page.next === null) return { keys, list_complete: true, cacheStatus: null };
    return { keys, list_complete: false, cursor: base64url(page.next), cacheStatus: null };
  }
}
shape(KvNamespace, 'KvNamespace');
