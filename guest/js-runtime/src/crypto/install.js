// Puts `crypto.subtle` in the place of the engine's. `build.mjs` imports this before all modules of an application that uses
// it, and `wasmhost build` adds the native part then.

import { CryptoKey, subtle, SubtleCrypto } from './subtle.js';

const holder = Object.getPrototypeOf(globalThis.crypto);
const place = Object.hasOwn(holder, 'subtle') ? holder : globalThis.crypto;
Object.defineProperty(place, 'subtle', { get: () => subtle, enumerable: true, configurable: true });
for (const [name, value] of Object.entries({ CryptoKey, SubtleCrypto })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}
