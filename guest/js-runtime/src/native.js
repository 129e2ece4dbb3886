// Calls of native parts (`wit/deps`), by the name of an interface and of its function: arguments are numbers and arrays of bytes,
// in the order of the WIT.

import { dealloc, imports, memory, realloc } from 'wasmhost:raw';

import { isActive } from './loop.js';
import { apply, ByteArray, copied, setBytes, zeroed } from './own.js';

// A part's instance is there only while a request is answered: at the top level, which runs in the build, it is not.
export const isThere = isActive;

// Whether the application has the part.
export const hasPart = (name) => imports[name] !== undefined;

export function call(name, args) {
  let content = 0;
  for (let index = 0; index < args.length; index++) if (typeof args[index] === 'object') content += args[index].length;
  const at = content > 0 ? realloc(0, 0, 1, content) : 0;
  // An allocation may have made the memory another one.
  const bytes = new ByteArray(memory.buffer);
  const flat = { __proto__: null, length: 0 };
  let to = at;
  for (let index = 0; index < args.length; index++) {
    const arg = args[index];
    if (typeof arg === 'object') {
      setBytes(bytes, arg, to);
      flat[flat.length++] = to === 0 ? 1 : to;
      flat[flat.length++] = arg.length;
      to += arg.length;
    } else {
      flat[flat.length++] = +arg;
    }
  }
  const result = apply(imports[name], undefined, flat);
  if (at !== 0) dealloc(at);
  return result;
}

const WordArray = globalThis.Uint32Array;

// What a function gives that may fail: bytes, or null.
export function made(name, args) {
  const result = call(name, args);
  const words = new WordArray(memory.buffer, result, 3);
  // The first byte is the case; the others of its word may be anything.
  const isMade = (words[0] & 0xff) === 0;
  const at = words[1];
  const length = words[2];
  dealloc(result);
  if (!isMade) return null;
  if (length === 0) return zeroed(0);
  const taken = copied(new ByteArray(memory.buffer, at, length));
  dealloc(at);
  return taken;
}
