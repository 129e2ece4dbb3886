// Calls of the native part (`wit/deps/native.wit`): arguments are numbers and arrays of bytes, in the order of the WIT.

import { dealloc, imports, memory, realloc } from 'wasmhost:raw';

import { isActive } from '../loop.js';

// In the order of the WIT's enums.
export const HASHES = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'];
export const CURVES = ['P-256', 'P-384', 'P-521', 'Ed25519', 'X25519'];
export const PKCS1 = 0;
export const PSS = 1;

// The component's instance is there only while a request is answered: at the top level, which runs in the build, it is not.
export const isThere = isActive;

function call(name, args) {
  if (!isThere()) {
    throw new DOMException(`crypto.subtle needs a request for this (${name}): at the top level there is none`, 'NotSupportedError');
  }
  const content = args.reduce((sum, arg) => sum + (typeof arg === 'object' ? arg.length : 0), 0);
  const at = content > 0 ? realloc(0, 0, 1, content) : 0;
  // An allocation may have made the memory another one.
  const bytes = new Uint8Array(memory.buffer);
  const flat = [];
  let to = at;
  for (const arg of args) {
    if (typeof arg === 'object') {
      bytes.set(arg, to);
      flat.push(to === 0 ? 1 : to, arg.length);
      to += arg.length;
    } else {
      flat.push(Number(arg));
    }
  }
  const result = imports[`wasmhost:native/crypto ${name}`](...flat);
  if (at !== 0) dealloc(at);
  return result;
}

// What a function gives that may fail: bytes, or null.
export function made(name, ...args) {
  const result = call(name, args);
  const bytes = new Uint8Array(memory.buffer);
  const words = new Uint32Array(memory.buffer, result, 3);
  const isMade = bytes[result] === 0;
  const [, at, length] = words;
  dealloc(result);
  if (!isMade) return null;
  if (length === 0) return new Uint8Array(0);
  const taken = bytes.slice(at, at + length);
  dealloc(at);
  return taken;
}

// Whether something is so.
export const holds = (name, ...args) => call(name, args) !== 0;
