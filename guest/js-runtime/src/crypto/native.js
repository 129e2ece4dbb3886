// Calls of the native part of cryptography (`wit/deps/native.wit`).

import * as native from '../native.js';
import { indexIn } from '../own.js';

// In the order of the WIT's enums.
export const HASHES = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'];
export const hashNumber = (name) => indexIn(HASHES, name);
export const CURVES = ['P-256', 'P-384', 'P-521', 'Ed25519', 'X25519'];
export const PKCS1 = 0;
export const PSS = 1;

export const { isThere } = native;

function named(name) {
  if (!isThere()) {
    throw new DOMException(`crypto.subtle needs a request for this (${name}): at the top level there is none`, 'NotSupportedError');
  }
  return `wasmhost:native/crypto ${name}`;
}

// What a function gives that may fail: bytes, or null.
export const made = (name, ...args) => native.made(named(name), args);

// Whether something is so.
export const holds = (name, ...args) => native.call(named(name), args) !== 0;
