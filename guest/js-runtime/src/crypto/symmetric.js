// Hashes, HMAC, AES, and what derives keys of secrets: HKDF and PBKDF2.

import { define, hash } from './algorithms.js';
import { bytes, error, long, octet, optional, short } from './convert.js';
import * as jwks from './jwk.js';
import { allow, newKey } from './keys.js';
import { HASHES, hashNumber, isThere, made } from './native.js';
import { contains, copied, zeroed } from '../own.js';

const failed = (message) => error('OperationError', message);

// What the native part gives, or an OperationError.
export function must(result, message = 'the operation failed') {
  if (result === null) throw failed(message);
  return result;
}

export const unsupported = (name, format) => error('NotSupportedError', `${name} has no keys in the format ${format}`);

for (const name of HASHES) define(name, { digest: (_, data) => must(made('digest', hashNumber(name), data)) });

const randomize = crypto.getRandomValues.bind(crypto);
// So much is given at once.
const PORTION = 65_536;

function random(length) {
  // One that is made in the build would be the same for all instances, and could be read in the component.
  if (!isThere()) throw error('NotSupportedError', 'keys are made within a request, not at the top level');
  const made = zeroed(length);
  for (let at = 0; at < length; at += PORTION) randomize(made.subarray(at, at + PORTION < length ? at + PORTION : length));
  return made;
}

// The bytes of a key in the formats that secrets have.
function secretOf(name, format, data, how, extractable, usages) {
  if (format === 'raw') return data;
  if (format !== 'jwk') throw unsupported(name, format);
  jwks.check(data, { kty: 'oct', ...how }, extractable, usages);
  return jwks.decode(data, 'k');
}

// `alg`: the name in a JWK.
function exportSecret(format, key, alg) {
  if (format === 'raw') return copied(key.material);
  if (format !== 'jwk') throw unsupported(key.algorithm.name, format);
  return { kty: 'oct', k: jwks.encode(key.material), alg, ...jwks.ends(key) };
}

// HMAC.

const BLOCK_BITS = { 'SHA-1': 512, 'SHA-256': 512, 'SHA-384': 1024, 'SHA-512': 1024 };
const HS = { 'SHA-1': 'HS1', 'SHA-256': 'HS256', 'SHA-384': 'HS384', 'SHA-512': 'HS512' };
// A key of a megabyte is none that anyone needs: more than a block is hashed first.
const HMAC_BITS_MAX = 8 << 20;
const hmacUses = ['sign', 'verify'];

// The bits that a key has not are zero.
function cut(secret, length) {
  if (length % 8 !== 0) secret[secret.length - 1] &= 0xff << (8 - (length % 8));
  return secret;
}

const hmacSign = (_, key, data) => must(made('hmac', hashNumber(key.algorithm.hash), key.material, data));

// In a time that does not tell where they differ.
function isEqual(one, other) {
  let differ = one.length ^ other.length;
  for (let index = 0; index < one.length; index++) differ |= one[index] ^ other[index];
  return differ === 0;
}

define('HMAC', {
  sign: hmacSign,
  verify: (algorithm, key, signature, data) => isEqual(hmacSign(algorithm, key, data), signature),
  generateKey: [
    { hash, length: optional(long) },
    ({ name, hash, length = BLOCK_BITS[hash] }, extractable, usages) => {
      allow(usages, hmacUses);
      if (length === 0 || length > HMAC_BITS_MAX) throw failed(`a new key of HMAC has 1 to ${HMAC_BITS_MAX} bits`);
      return newKey('secret', extractable, { name, hash, length }, usages, cut(random((length + 7) >>> 3), length));
    },
  ],
  importKey: [
    { hash, length: optional(long) },
    ({ name, hash, length }, format, data, extractable, usages) => {
      allow(usages, hmacUses);
      const secret = secretOf(name, format, data, { use: 'sig', alg: HS[hash] }, extractable, usages);
      const bits = secret.length * 8;
      if (bits === 0 || (length !== undefined && (length > bits || length <= bits - 8))) {
        throw error('DataError', `the key has ${bits} bits`);
      }
      return newKey('secret', extractable, { name, hash, length: length ?? bits }, usages, cut(secret, length ?? bits));
    },
  ],
  exportKey: (format, key) => exportSecret(format, key, HS[key.algorithm.hash]),
  getKeyLength: [
    { hash, length: optional(long) },
    ({ hash, length = BLOCK_BITS[hash] }) => {
      if (length === 0) throw new TypeError('a key of HMAC has at least one bit');
      return length;
    },
  ],
});

// AES.

const LENGTHS = [128, 192, 256];

function aes(name, suffix, allowed, operations) {
  const needLength = (length) => {
    if (!contains(LENGTHS, length)) throw failed(`a key of AES has 128, 192 or 256 bits, not ${length}`);
    return length;
  };
  define(name, {
    ...operations,
    generateKey: [
      { length: short },
      ({ name, length }, extractable, usages) => {
        allow(usages, allowed);
        return newKey('secret', extractable, { name, length }, usages, random(needLength(length) / 8));
      },
    ],
    importKey: ({ name }, format, data, extractable, usages) => {
      allow(usages, allowed);
      const alg = data.k === undefined ? undefined : `A${jwks.decode(data, 'k').length * 8}${suffix}`;
      const secret = secretOf(name, format, data, { use: 'enc', alg }, extractable, usages);
      const length = secret.length * 8;
      if (!contains(LENGTHS, length)) throw error('DataError', `a key of AES has 128, 192 or 256 bits, not ${length}`);
      return newKey('secret', extractable, { name, length }, usages, secret);
    },
    exportKey: (format, key) => exportSecret(format, key, `A${key.algorithm.length}${suffix}`),
    getKeyLength: [{ length: short }, ({ length }) => needLength(length)],
  });
}

const ciphering = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];

const cbc = (encrypts) => [
  { iv: bytes },
  ({ iv }, key, data) => {
    if (iv.length !== 16) throw failed('the iv of AES-CBC has 16 bytes');
    return must(made('aes-cbc', encrypts, key.material, iv, data));
  },
];
aes('AES-CBC', 'CBC', ciphering, { encrypt: cbc(true), decrypt: cbc(false) });

const ctr = [
  { counter: bytes, length: octet },
  ({ counter, length }, key, data) => {
    if (counter.length !== 16) throw failed('the counter of AES-CTR has 16 bytes');
    if (length === 0 || length > 128) throw failed('1 to 128 bits of the counter count');
    return must(made('aes-ctr', key.material, counter, length, data), 'the data is longer than the counter can count');
  },
];
aes('AES-CTR', 'CTR', ciphering, { encrypt: ctr, decrypt: ctr });

const TAGS = [32, 64, 96, 104, 112, 120, 128];
const gcm = (encrypts) => [
  { iv: bytes, additionalData: optional(bytes), tagLength: optional(octet) },
  ({ iv, additionalData = zeroed(0), tagLength = 128 }, key, data) => {
    if (!contains(TAGS, tagLength)) throw failed(`the tag has one of ${TAGS} bits`);
    if (iv.length === 0) throw failed('the iv of AES-GCM has at least one byte');
    return must(made('aes-gcm', encrypts, key.material, iv, additionalData, tagLength / 8, data));
  },
];
aes('AES-GCM', 'GCM', ciphering, { encrypt: gcm(true), decrypt: gcm(false) });

const kw = (wraps) => (_, key, data) => must(made('aes-kw', wraps, key.material, data));
aes('AES-KW', 'KW', ['wrapKey', 'unwrapKey'], { wrapKey: kw(true), unwrapKey: kw(false) });

// Secrets that keys are derived of.

function derivation(name, members, derive) {
  define(name, {
    deriveBits: [
      members,
      (algorithm, key, length) => {
        if (length === null || length % 8 !== 0) throw failed('the length of what is derived is a number of bits, in whole bytes');
        return derive(algorithm, key.material, length / 8);
      },
    ],
    importKey: ({ name }, format, data, extractable, usages) => {
      if (format !== 'raw') throw unsupported(name, format);
      allow(usages, ['deriveKey', 'deriveBits']);
      if (extractable) throw error('SyntaxError', `a key of ${name} cannot be extractable`);
      return newKey('secret', false, { name }, usages, data);
    },
    getKeyLength: () => null,
  });
}

derivation('HKDF', { hash, salt: bytes, info: bytes }, ({ hash, salt, info }, secret, length) =>
  must(made('hkdf', hashNumber(hash), secret, salt, info, length), 'so much cannot be derived'),
);
derivation('PBKDF2', { salt: bytes, iterations: long, hash }, ({ hash, salt, iterations }, secret, length) => {
  if (iterations === 0) throw failed('there has to be an iteration');
  return must(made('pbkdf2', hashNumber(hash), secret, salt, iterations, length));
});
