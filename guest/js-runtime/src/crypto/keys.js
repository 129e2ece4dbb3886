// CryptoKey, and what the runtime keeps of a key.

import { error, oneOf, sequenceOf } from './convert.js';
import { contains, plain } from '../own.js';

const INTERNAL = Symbol('internal');

export const USAGES = ['encrypt', 'decrypt', 'sign', 'verify', 'deriveKey', 'deriveBits', 'wrapKey', 'unwrapKey'];

// What a caller names, each once and in the order of the standard.
export function usagesOf(value) {
  const given = sequenceOf(value, (usage) => oneOf(USAGES, usage, 'use of a key'), 'the uses of a key');
  return common(USAGES, given);
}

// Fails where a use is named that the key cannot have.
export function allow(usages, allowed) {
  for (let index = 0; index < usages.length; index++) {
    if (!contains(allowed, usages[index])) throw error('SyntaxError', `such a key is not used to ${usages[index]}`);
  }
}

export function common(usages, allowed) {
  const made = [];
  for (let index = 0; index < usages.length; index++) if (contains(allowed, usages[index])) made[made.length] = usages[index];
  return made;
}

export class CryptoKey {
  #type;
  #extractable;
  #algorithm;
  #usages;
  // Bytes, or an object of several.
  #material;

  constructor(key, type, extractable, algorithm, usages, material) {
    if (key !== INTERNAL) throw new TypeError('Illegal constructor');
    this.#type = type;
    this.#extractable = extractable;
    this.#algorithm = algorithm;
    this.#usages = usages;
    this.#material = material;
  }

  get type() {
    return this.#type;
  }

  get extractable() {
    return this.#extractable;
  }

  get algorithm() {
    return this.#algorithm;
  }

  get usages() {
    return this.#usages;
  }

  static [INTERNAL](value) {
    if (typeof value !== 'object' || value === null || !(#material in value)) return undefined;
    return value.#material;
  }
}
const materialOf = CryptoKey[INTERNAL];
delete CryptoKey[INTERNAL];

for (const name of ['type', 'extractable', 'algorithm', 'usages']) {
  Object.defineProperty(CryptoKey.prototype, name, { ...Object.getOwnPropertyDescriptor(CryptoKey.prototype, name), enumerable: true });
}
Object.defineProperty(CryptoKey.prototype, Symbol.toStringTag, { value: 'CryptoKey', configurable: true });

// A key. What callers see of it is a copy: they may write to it. `algorithm.hash` is a name here, an object to them.
export function newKey(type, extractable, algorithm, usages, material) {
  const shown = { ...algorithm };
  if (algorithm.hash !== undefined) shown.hash = { name: algorithm.hash };
  if (algorithm.publicExponent !== undefined) shown.publicExponent = plain(algorithm.publicExponent);
  return new CryptoKey(INTERNAL, type, extractable, shown, [...usages], { type, extractable, algorithm, usages, material });
}

// What is known of a key: { type, extractable, algorithm, usages, material }.
export function known(value, what = 'it') {
  const found = materialOf(value);
  if (found === undefined) throw new TypeError(`${what} is no CryptoKey`);
  return found;
}

// Fails where the key is of another type.
export function need(key, type) {
  if (key.type !== type) throw error('InvalidAccessError', `the key is ${key.type}; a ${type} one is needed`);
}
