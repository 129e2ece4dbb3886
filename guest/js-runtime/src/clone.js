// structuredClone in front of the engine's, which clones a Blob without its type and makes a Blob of a File.

import { withType } from './blob.js';
import { INNER, provide } from './shape.js';

const native = globalThis.structuredClone;

// What the runtime or the streams' package made, and the engine takes for a plain object. Its own it refuses itself.
const isPlatform = (value) =>
  value[INNER] !== undefined ||
  value instanceof URLSearchParams ||
  value instanceof Headers ||
  value instanceof FormData ||
  value instanceof ReadableStream ||
  value instanceof WritableStream ||
  value instanceof TransformStream;

// Longer arrays may have few elements.
const WALKED_MAX = 65536;

const isObject = (value) => typeof value === 'object' && value !== null;
// The engine has a TypeError for buffers that are no more, and for views beside them.
function isLost(value) {
  if (value instanceof ArrayBuffer) return value.detached;
  if (!ArrayBuffer.isView(value)) return false;
  try {
    return value instanceof DataView ? value.byteLength < 0 : value.keys() === null;
  } catch {
    return true;
  }
}

// Whose keys are those of what they hold.
const isFlat = (value) => ArrayBuffer.isView(value) || value instanceof String;
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
    if (Array.isArray(one) && one.length <= WALKED_MAX) {
      for (let index = 0; index < one.length; index++) look(one[index]);
      continue;
    }
    if (Object.getPrototypeOf(one) !== Object.prototype) {
      if (isLost(one)) throw refused(one);
      if (isFlat(one)) continue;
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

// The engine's clone with the Blobs in it put right, by walking through both.
function mended(value, engines) {
  // The clones by their originals. Going through it also comes to what is added meanwhile.
  const done = new Map();
  const right = (original, clone) => {
    if (!isObject(original)) return clone;
    if (!done.has(original)) done.set(original, original instanceof Blob ? cloneBlob(original) : clone);
    return done.get(original);
  };
  const whole = right(value, engines);
  for (const [original, clone] of done) {
    if (original instanceof Blob || isFlat(original)) continue;
    if (original instanceof Map) {
      const entries = [...clone];
      clone.clear();
      [...original].forEach(([key, part], index) => clone.set(right(key, entries[index][0]), right(part, entries[index][1])));
    } else if (original instanceof Set) {
      const values = [...clone];
      clone.clear();
      [...original].forEach((part, index) => clone.add(right(part, values[index])));
    } else {
      for (const name of Object.keys(original)) clone[name] = right(original[name], clone[name]);
    }
  }
  return whole;
}

export function structuredClone(value, options = undefined) {
  if (arguments.length === 0) throw new TypeError('structuredClone needs a value');
  const needsMending = hasBlob(value);
  const transfer = [...(options?.transfer ?? [])];
  const unfit = transfer.find((one) => !(one instanceof ArrayBuffer) || one.detached);
  if (unfit !== undefined) throw refused(unfit);
  const clone = native(value, { transfer });
  return needsMending ? mended(value, clone) : clone;
}
provide('structuredClone', structuredClone);
