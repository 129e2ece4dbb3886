// A store of the host by its name: `wit/keyvalue-entries.wit`, lowered by hand as in `wasi.js`. Memory for arguments and of answers is
// freed at once, since there may be many calls in a request.

import { dealloc, imports, memory, realloc } from 'wasmhost:raw';

import { isThere } from '../native.js';

const encoder = new TextEncoder();
// A mark at the beginning belongs to the text here.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

const NONE = [0, 0, 0];
// Of an element, as the canonical ABI lays them out.
const TEXT_BYTES = 8;
const ENTRY_BYTES = 24;
const KEY_BYTES = 40;

// Calls a function with texts and bytes: each is put where the host reads it, in one piece of memory, behind `room` bytes, which
// `flat` may fill. `flat` gives the arguments for places, { at, length } of each; `read` makes something of the answer.
function call(name, parts, flat, read, room = 0) {
  if (!isThere()) throw new Error('stores need a request: at the top level there is none');
  const encoded = parts.map((part) => (typeof part === 'string' ? encoder.encode(part) : part));
  const size = encoded.reduce((sum, part) => sum + part.length, room);
  const base = realloc(0, 0, 8, Math.max(size, 1));
  const bytes = new Uint8Array(memory.buffer);
  let at = base + room;
  const places = encoded.map((part) => {
    const place = { at, length: part.length };
    bytes.set(part, at);
    at += part.length;
    return place;
  });
  let result;
  try {
    result = imports[`wasmhost:keyvalue/entries ${name}`](...flat(places, base));
  } finally {
    dealloc(base);
  }
  const view = new DataView(memory.buffer);
  const isMade = view.getUint8(result) === 0;
  try {
    if (isMade) return read(view, result + 4);
    throw new Error(takeText(view, result + 4));
  } finally {
    dealloc(result);
  }
}

// What the host has allocated is freed when it is read.
const word = (view, at) => view.getUint32(at, true);

function take(view, at, make) {
  const [from, length] = [word(view, at), word(view, at + 4)];
  if (length === 0) return make(new Uint8Array(0));
  const made = make(new Uint8Array(memory.buffer, from, length));
  dealloc(from);
  return made;
}

const takeText = (view, at) => take(view, at, (bytes) => decoder.decode(bytes));
const takeBytes = (view, at) => take(view, at, (bytes) => bytes.slice());
const takeOptionalText = (view, at) => (view.getUint8(at) === 0 ? null : takeText(view, at + 4));

function takeList(view, at, size, make) {
  const [from, length] = [word(view, at), word(view, at + 4)];
  const made = [];
  for (let index = 0; index < length; index++) made.push(make(view, from + index * size));
  if (length > 0) dealloc(from);
  return made;
}

const entryAt = (view, at) =>
  view.getUint8(at) === 0 ? null : { value: takeBytes(view, at + 4), metadata: takeOptionalText(view, at + 12) };

const keyAt = (view, at) => ({
  name: takeText(view, at),
  expiresAt: view.getUint8(at + 8) === 0 ? null : Number(view.getBigUint64(at + 16, true)),
  metadata: takeOptionalText(view, at + 24),
});

// The arguments for a list of texts, whose table is at `base`.
function listOf(places, base) {
  const view = new DataView(memory.buffer);
  places.forEach(({ at, length }, index) => {
    view.setUint32(base + index * TEXT_BYTES, at, true);
    view.setUint32(base + index * TEXT_BYTES + 4, length, true);
  });
  return [base, places.length];
}

const spread = ({ at, length }) => [at, length];

export const storeOf = (store) => ({
  // For each key { value, metadata }, of which the value is bytes and the metadata a text or null; null where it has none.
  get(keys) {
    const flat = ([name, ...places], base) => [...spread(name), ...listOf(places, base)];
    return call('get', [store, ...keys], flat, (view, at) => takeList(view, at, ENTRY_BYTES, entryAt), keys.length * TEXT_BYTES);
  },

  // `metadata` and `ttl`, in milliseconds, may be null.
  set(key, value, metadata, ttl) {
    const flat = ([name, of, bytes, text]) => [
      ...spread(name),
      ...spread(of),
      ...spread(bytes),
      ...(metadata === null ? NONE : [1, ...spread(text)]),
      ttl === null ? 0 : 1,
      BigInt(ttl ?? 0),
    ];
    call('set', [store, key, value, metadata ?? ''], flat, () => undefined);
  },

  delete(keys) {
    const flat = ([name, ...places], base) => [...spread(name), ...listOf(places, base)];
    call('delete', [store, ...keys], flat, () => undefined, keys.length * TEXT_BYTES);
  },

  // A page of keys, { name, expiresAt, metadata }, of which the last two may be null; `next` is where the next page begins, or null.
  list(prefix, after, limit) {
    const flat = ([name, begin, behind]) => [
      ...spread(name),
      ...spread(begin),
      ...(after === null ? NONE : [1, ...spread(behind)]),
      limit,
    ];
    return call('list', [store, prefix, after ?? ''], flat, (view, at) => ({
      keys: takeList(view, at, KEY_BYTES, keyAt),
      next: takeOptionalText(view, at + 8),
    }));
  },
});
