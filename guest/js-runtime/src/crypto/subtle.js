// SubtleCrypto (Web Cryptography API, section 14): the steps that all algorithms have, in the standard's order.

import { has, normalize } from './algorithms.js';
import './curves.js';
import './rsa.js';
import './symmetric.js';
import { bytes, error, isBytes, long, needBytes, oneOf } from './convert.js';
import { jwkOf } from './jwk.js';
import { CryptoKey, known, usagesOf } from './keys.js';
import { isThere } from './native.js';
import { contains, uncurried } from '../own.js';

// As they were before the application was there: they see the material of keys.
const { parse, stringify } = JSON;
const { setPrototypeOf } = Object;
const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];
const [encodeText, decodeText] = [uncurried(TextEncoder.prototype.encode), uncurried(TextDecoder.prototype.decode)];

const INTERNAL = Symbol('internal');
const FORMATS = ['raw', 'spki', 'pkcs8', 'jwk'];
const formatOf = (value) => oneOf(FORMATS, value, 'format of a key');

// The engine's own, for what is done at the top level.
const engine = globalThis.crypto.subtle;

// A method's arguments have to be so many, and there is one object that has the methods.
function begin(self, args, least, method) {
  if (self !== subtle) throw new TypeError(`${method} is a method of crypto.subtle`);
  if (args.length < least) throw new TypeError(`${method} takes ${least} arguments, not ${args.length}`);
}

// Whether a key may be used in this way with this algorithm.
function permit(algorithm, key, usage) {
  if (algorithm.name !== key.algorithm.name) {
    throw error('InvalidAccessError', `the key is one of ${key.algorithm.name}, not of ${algorithm.name}`);
  }
  if (!contains(key.usages, usage)) throw error('InvalidAccessError', `the key may not be used for ${usage}`);
}

function permitExport(key) {
  if (!has(key.algorithm.name, 'exportKey')) throw error('NotSupportedError', `keys of ${key.algorithm.name} cannot be exported`);
  if (!key.extractable) throw error('InvalidAccessError', 'the key is not extractable');
}

const exported = (format, key) => normalizeKey(key).run(format, key);
const normalizeKey = (key) => normalize('exportKey', key.algorithm.name);

// A secret or private key has to have a use.
function used(key) {
  const { type, usages } = known(key);
  if (type !== 'public' && usages.length === 0) throw error('SyntaxError', 'the key has no use');
  return key;
}

const buffer = (made) => made.buffer;

// A wrapping algorithm has operations of its own, or those of encryption.
function wrapping(operation, other, algorithm) {
  try {
    return normalize(operation, algorithm);
  } catch {
    return normalize(other, algorithm);
  }
}

export class SubtleCrypto {
  constructor(key) {
    if (key !== INTERNAL) throw new TypeError('Illegal constructor');
  }

  async encrypt(algorithm, key, data) {
    begin(this, arguments, 3, 'encrypt');
    return cipher('encrypt', algorithm, key, data);
  }

  async decrypt(algorithm, key, data) {
    begin(this, arguments, 3, 'decrypt');
    return cipher('decrypt', algorithm, key, data);
  }

  async sign(algorithm, key, data) {
    begin(this, arguments, 3, 'sign');
    return cipher('sign', algorithm, key, data);
  }

  async verify(algorithm, key, signature, data) {
    begin(this, arguments, 4, 'verify');
    const given = known(key, 'the key');
    needBytes(signature, 'the signature');
    needBytes(data, 'the data');
    const normalized = normalize('verify', algorithm);
    const [signed, content] = [bytes(signature, 'the signature'), bytes(data, 'the data')];
    permit(normalized, given, 'verify');
    return normalized.run(normalized, given, signed, content);
  }

  async digest(algorithm, data) {
    begin(this, arguments, 2, 'digest');
    if (!isThere()) return engine.digest(algorithm, data);
    needBytes(data, 'the data');
    const normalized = normalize('digest', algorithm);
    return buffer(normalized.run(normalized, bytes(data, 'the data')));
  }

  async generateKey(algorithm, extractable, keyUsages) {
    begin(this, arguments, 3, 'generateKey');
    const usages = usagesOf(keyUsages);
    const normalized = normalize('generateKey', algorithm);
    const made = normalized.run(normalized, !!extractable, usages);
    used(made.privateKey ?? made);
    return made;
  }

  async deriveKey(algorithm, baseKey, derivedKeyType, extractable, keyUsages) {
    begin(this, arguments, 5, 'deriveKey');
    const key = known(baseKey, 'the base key');
    const usages = usagesOf(keyUsages);
    const normalized = normalize('deriveBits', algorithm);
    const importing = normalize('importKey', derivedKeyType);
    const length = normalize('getKeyLength', derivedKeyType);
    permit(normalized, key, 'deriveKey');
    const secret = normalized.run(normalized, key, length.run(length));
    return used(importing.run(importing, 'raw', secret, !!extractable, usages));
  }

  async deriveBits(algorithm, baseKey, length = null) {
    begin(this, arguments, 2, 'deriveBits');
    const key = known(baseKey, 'the base key');
    const bits = length === null ? null : long(length, 'the length');
    const normalized = normalize('deriveBits', algorithm);
    permit(normalized, key, 'deriveBits');
    return buffer(normalized.run(normalized, key, bits));
  }

  async importKey(format, keyData, algorithm, extractable, keyUsages) {
    begin(this, arguments, 5, 'importKey');
    const how = formatOf(format);
    if ((typeof keyData !== 'object' && typeof keyData !== 'function') || keyData === null) throw new TypeError('the key is no object');
    const jwk = isBytes(keyData) ? null : jwkOf(keyData);
    const usages = usagesOf(keyUsages);
    const normalized = normalize('importKey', algorithm);
    if ((how === 'jwk') !== (jwk !== null)) throw new TypeError(`the key is not what the format ${how} is`);
    return used(normalized.run(normalized, how, jwk ?? bytes(keyData), !!extractable, usages));
  }

  async exportKey(format, key) {
    begin(this, arguments, 2, 'exportKey');
    const how = formatOf(format);
    const given = known(key, 'the key');
    permitExport(given);
    const made = exported(how, given);
    return how === 'jwk' ? made : buffer(made);
  }

  // Of Workers: whether bytes are the same, in a time that does not tell where they differ.
  timingSafeEqual(a, b) {
    begin(this, arguments, 2, 'timingSafeEqual');
    const [one, other] = [bytes(a, 'the first'), bytes(b, 'the second')];
    if (one.length !== other.length) throw new TypeError('timingSafeEqual compares bytes of the same length');
    let differing = 0;
    for (let index = 0; index < one.length; index++) differing |= one[index] ^ other[index];
    return differing === 0;
  }

  async wrapKey(format, key, wrappingKey, wrapAlgorithm) {
    begin(this, arguments, 4, 'wrapKey');
    const how = formatOf(format);
    const given = known(key, 'the key');
    const wrapper = known(wrappingKey, 'the wrapping key');
    const normalized = wrapping('wrapKey', 'encrypt', wrapAlgorithm);
    permit(normalized, wrapper, 'wrapKey');
    permitExport(given);
    const made = exported(how, given);
    const content = how === 'jwk' ? bytes(encodeText(encoder, stringify(made))) : made;
    return buffer(normalized.run(normalized, wrapper, content));
  }

  async unwrapKey(format, wrappedKey, unwrappingKey, unwrapAlgorithm, unwrappedKeyAlgorithm, extractable, keyUsages) {
    begin(this, arguments, 7, 'unwrapKey');
    const how = formatOf(format);
    const wrapper = known(unwrappingKey, 'the unwrapping key');
    const usages = usagesOf(keyUsages);
    needBytes(wrappedKey, 'the wrapped key');
    const normalized = wrapping('unwrapKey', 'decrypt', unwrapAlgorithm);
    const importing = normalize('importKey', unwrappedKeyAlgorithm);
    const wrapped = bytes(wrappedKey, 'the wrapped key');
    permit(normalized, wrapper, 'unwrapKey');
    let content = normalized.run(normalized, wrapper, wrapped);
    if (how === 'jwk') content = parsed(content);
    return used(importing.run(importing, how, content, !!extractable, usages));
  }
}

function cipher(operation, algorithm, key, data) {
  const given = known(key, 'the key');
  needBytes(data, 'the data');
  const normalized = normalize(operation, algorithm);
  const content = bytes(data, 'the data');
  permit(normalized, given, operation);
  return buffer(normalized.run(normalized, given, content));
}

// Section "Concepts", "parse a JWK".
function parsed(content) {
  try {
    const value = parse(decodeText(decoder, content));
    // A member that is missing is read from no prototype: an accessor there would see the others.
    if (typeof value === 'object' && value !== null && typeof setPrototypeOf(value, null).kty === 'string') return jwkOf(value);
  } catch {
    // It is no JSON.
  }
  throw error('DataError', 'what was wrapped is no JSON Web Key');
}

for (const name of Object.getOwnPropertyNames(SubtleCrypto.prototype)) {
  if (name === 'constructor') continue;
  Object.defineProperty(SubtleCrypto.prototype, name, { ...Object.getOwnPropertyDescriptor(SubtleCrypto.prototype, name), enumerable: true });
}
Object.defineProperty(SubtleCrypto.prototype, Symbol.toStringTag, { value: 'SubtleCrypto', configurable: true });

export const subtle = new SubtleCrypto(INTERNAL);
export { CryptoKey };
