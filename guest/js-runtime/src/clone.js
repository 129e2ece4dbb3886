// structuredClone in front of the engine's, which clones a Blob without its type and makes a Blob of a File.

import { withType } from './blob.js';
import { INNER, provide } from './shape.js';

const native = globalThis.structuredClone;

// What the runtime or the streams' package made, and the engine takes for a plain object. Its own it refuses itself.
const isPlatform = (value) =>
  value[INNER] !== undefined ||
  value instanceof ReadableStream ||
  value instanceof WritableStream ||
  value instanceof TransformStream;

const isObject = (value) => typeof value === 'object' && value !== null;
const refused = (value) => new DOMException(`${Object.prototype.toString.call(value)} cannot be cloned`, 'DataCloneError');

// The values that are cloned with a plain object or an array; what a getter gives is left to the engine.
function* partsOf(object) {
  for (const [name, { enumerable, value }] of Object.entries(Object.getOwnPropertyDescriptors(object))) {
    if (enumerable && isObject(value)) yield [name, value];
  }
}

const isPlain = (value) => Array.isArray(value) || Object.prototype.toString.call(value) === '[object Object]';

// Whether there is a Blob in it. Throws for what cannot be cloned.
function hasBlob(value, seen) {
  if (!isObject(value) || seen.has(value)) return false;
  seen.add(value);
  if (value instanceof Blob) return true;
  if (isPlatform(value)) throw refused(value);
  let found = false;
  if (value instanceof Map) for (const entry of value) for (const part of entry) found = hasBlob(part, seen) || found;
  else if (value instanceof Set) for (const part of value) found = hasBlob(part, seen) || found;
  else if (isPlain(value)) for (const [, part] of partsOf(value)) found = hasBlob(part, seen) || found;
  return found;
}

function cloneBlob(blob) {
  if (!(blob instanceof File)) return withType(blob.slice(), blob.type);
  return withType(new File([blob], blob.name, { type: blob.type, lastModified: blob.lastModified }), blob.type);
}

// The engine's clone with the Blobs in it put right, by walking through both. `done` has the clones by their originals.
function mended(original, clone, done) {
  if (!isObject(original)) return clone;
  if (done.has(original)) return done.get(original);
  const right = original instanceof Blob ? cloneBlob(original) : clone;
  done.set(original, right);
  if (original instanceof Map) {
    const entries = [...clone];
    clone.clear();
    [...original].forEach(([key, value], index) => {
      clone.set(mended(key, entries[index][0], done), mended(value, entries[index][1], done));
    });
  } else if (original instanceof Set) {
    const values = [...clone];
    clone.clear();
    [...original].forEach((value, index) => clone.add(mended(value, values[index], done)));
  } else if (isPlain(original)) {
    for (const [name, value] of partsOf(original)) clone[name] = mended(value, clone[name], done);
  }
  return right;
}

export function structuredClone(value, options = undefined) {
  if (arguments.length === 0) throw new TypeError('structuredClone needs a value');
  const needsMending = isObject(value) && hasBlob(value, new Set());
  const clone = native(value, options);
  return needsMending ? mended(value, clone, new Map()) : clone;
}
provide('structuredClone', structuredClone);
