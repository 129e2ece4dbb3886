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

// Whether there is a Blob in it. Throws for what cannot be cloned.
function hasBlob(value) {
  let found = false;
  // Going through a set also comes to what is added meanwhile.
  const seen = new Set();
  const look = (part) => {
    if (typeof part === 'object') {
      if (part !== null) seen.add(part);
    } else if (typeof part === 'symbol') {
      throw refused(part);
    }
  };
  look(value);
  for (const one of seen) {
    // Most are plain objects and arrays.
    if (Array.isArray(one)) {
      for (let index = 0; index < one.length; index++) look(one[index]);
      continue;
    }
    if (Object.getPrototypeOf(one) !== Object.prototype) {
      if (ArrayBuffer.isView(one)) continue;
      if (one instanceof Blob) {
        found = true;
        continue;
      }
      if (isPlatform(one)) throw refused(one);
      if (one instanceof Set) one.forEach(look);
      if (one instanceof Map) {
        for (const [key, part] of one) {
          look(key);
          look(part);
        }
      }
    }
    for (const name of Object.keys(one)) look(one[name]);
  }
  return found;
}

function cloneBlob(blob) {
  if (!(blob instanceof File)) return withType(blob.slice(0, blob.size, blob.type), blob.type);
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
  } else if (!ArrayBuffer.isView(original)) {
    for (const name of Object.keys(original)) clone[name] = mended(original[name], clone[name], done);
  }
  return right;
}

export function structuredClone(value, options = undefined) {
  if (arguments.length === 0) throw new TypeError('structuredClone needs a value');
  const needsMending = hasBlob(value);
  const clone = native(value, options);
  return needsMending ? mended(value, clone, new Map()) : clone;
}
provide('structuredClone', structuredClone);
