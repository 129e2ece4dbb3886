// Keys of RSA. A key's material is RSAPrivateKey or RSAPublicKey (RFC 8017, appendix A.1) in DER.

import { define, hash } from './algorithms.js';
import { bytes, error, long, optional } from './convert.js';
import * as der from './der.js';
import * as jwks from './jwk.js';
import { allow, common, need, newKey } from './keys.js';
import { HASHES, hashNumber, holds, isThere, made, PKCS1, PSS } from './native.js';
import { copied, zeroed } from '../own.js';
import { must, unsupported } from './symmetric.js';

const invalid = (message = 'the key is not valid') => error('DataError', message);

const RSA = copied([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
const PARAMETERS = copied([der.NULL, 0]);
const BITS_MIN = 1024;
const BITS_MAX = 8192;
const EXPONENT_BYTES_MAX = 4;
// The numbers of a private key behind its version, by the names that they have in a JWK; those of a public one are the first.
const NUMBERS = ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'];
const isPrivate = (numbers) => numbers.length > 2;

function numbersOf(material, hasVersion) {
  const outer = new der.Reader(material);
  const info = outer.sequence();
  outer.end();
  if (hasVersion && info.small() !== 0) throw invalid('keys of more than two primes are not supported');
  const next = () => info.unsigned();
  const numbers = hasVersion ? [next(), next(), next(), next(), next(), next(), next(), next()] : [next(), next()];
  info.end();
  return numbers;
}

function materialOf(numbers) {
  const at = (index) => der.integer(numbers[index]);
  if (!isPrivate(numbers)) return der.sequence(at(0), at(1));
  return der.sequence(der.small(0), at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}

// The public key of a private one.
function publicOf(material) {
  const numbers = numbersOf(material, true);
  return materialOf([numbers[0], numbers[1]]);
}

const bitsOf = (n) => n.length * 8 - Math.clz32(n[0]) + 24;

function exponentOf(value) {
  if (!(value instanceof Uint8Array)) throw new TypeError('the public exponent is no Uint8Array');
  return bytes(value);
}

// `algs`: what a JWK calls the algorithm with each hash.
function keys(name, use, algs, privateUses, publicUses) {
  const algorithmOf = (hash, numbers) => ({
    name,
    modulusLength: bitsOf(numbers[0]),
    publicExponent: copied(numbers[1]),
    hash,
  });
  const read = {
    spki: (data) => ({ ...der.readSpki(data), hasVersion: false }),
    pkcs8: (data) => ({ ...der.readPkcs8(data), hasVersion: true }),
  };
  const importNumbers = {
    jwk(data, hash, extractable, usages) {
      allow(usages, data.d === undefined ? publicUses : privateUses);
      jwks.check(data, { kty: 'RSA', use, alg: algs[hash] }, extractable, usages);
      if (data.oth !== undefined) throw error('NotSupportedError', 'keys of more than two primes are not supported');
      const of = (number) => {
        const bytes = der.trimmed(jwks.decode(data, number));
        if (bytes.length === 0) throw invalid();
        return bytes;
      };
      if (data.d === undefined) return [of('n'), of('e')];
      return [of('n'), of('e'), of('d'), of('p'), of('q'), of('dp'), of('dq'), of('qi')];
    },
    ...Object.fromEntries(
      Object.entries(read).map(([format, reading]) => [
        format,
        (data, _, extractable, usages) => {
          allow(usages, format === 'spki' ? publicUses : privateUses);
          const { oid, parameters, key, hasVersion } = reading(data);
          if (!der.isSame(oid, RSA)) throw invalid('the key is none of rsaEncryption');
          parameters.take(der.NULL);
          parameters.end();
          return numbersOf(key, hasVersion);
        },
      ]),
    ),
  };
  return {
    generateKey: [
      { modulusLength: long, publicExponent: exponentOf, hash },
      ({ modulusLength, publicExponent, hash }, extractable, usages) => {
        allow(usages, [...privateUses, ...publicUses]);
        const e = der.trimmed(publicExponent);
        // Of four bytes at most, which is what the crate takes.
        let exponent = 0;
        for (let index = 0; e.length <= EXPONENT_BYTES_MAX && index < e.length; index++) exponent = exponent * 256 + e[index];
        if (exponent < 3 || exponent % 2 === 0) throw error('OperationError', 'the public exponent is no odd number of 3 to 2³² - 1');
        const material = must(made('rsa-generate', modulusLength, exponent), `no key of ${modulusLength} bits can be made`);
        const algorithm = algorithmOf(hash, numbersOf(material, true));
        return {
          publicKey: newKey('public', true, algorithm, common(usages, publicUses), publicOf(material)),
          privateKey: newKey('private', extractable, algorithm, common(usages, privateUses), material),
        };
      },
    ],
    importKey: [
      { hash },
      ({ hash }, format, data, extractable, usages) => {
        if (importNumbers[format] === undefined) throw unsupported(name, format);
        const numbers = importNumbers[format](data, hash, extractable, usages);
        const bits = bitsOf(numbers[0]);
        if (bits < BITS_MIN || bits > BITS_MAX) throw invalid(`a key of RSA has ${BITS_MIN} to ${BITS_MAX} bits, not ${bits}`);
        if (numbers[1].length > EXPONENT_BYTES_MAX) throw invalid('the public exponent is 2³² or more');
        const material = materialOf(numbers);
        // At the top level it is looked at when it is used.
        if (isThere() && !holds('rsa-check', isPrivate(numbers), material)) throw invalid();
        return newKey(isPrivate(numbers) ? 'private' : 'public', extractable, algorithmOf(hash, numbers), usages, material);
      },
    ],
    exportKey(format, key) {
      if (format === 'spki') {
        need(key, 'public');
        return der.writeSpki(RSA, PARAMETERS, key.material);
      }
      if (format === 'pkcs8') {
        need(key, 'private');
        return der.writePkcs8(RSA, PARAMETERS, key.material);
      }
      if (format !== 'jwk') throw unsupported(name, format);
      const numbers = numbersOf(key.material, key.type === 'private');
      const members = numbers.map((number, index) => [NUMBERS[index], jwks.encode(number)]);
      return { kty: 'RSA', alg: algs[key.algorithm.hash], ...Object.fromEntries(members), ...jwks.ends(key) };
    },
  };
}

// The names of an algorithm with each hash.
const named = (...names) => Object.fromEntries(HASHES.map((hash, index) => [hash, names[index]]));
const hashOf = (key) => hashNumber(key.algorithm.hash);

const signing = (scheme, members) => ({
  sign: [
    members,
    ({ saltLength = 0 }, key, data) => {
      need(key, 'private');
      return must(made('rsa-sign', scheme, hashOf(key), saltLength, key.material, data));
    },
  ],
  verify: [
    members,
    ({ saltLength = 0 }, key, signature, data) => {
      need(key, 'public');
      return holds('rsa-verify', scheme, hashOf(key), saltLength, key.material, signature, data);
    },
  ],
});

define('RSASSA-PKCS1-v1_5', {
  ...signing(PKCS1, {}),
  ...keys('RSASSA-PKCS1-v1_5', 'sig', named('RS1', 'RS256', 'RS384', 'RS512'), ['sign'], ['verify']),
});
define('RSA-PSS', {
  ...signing(PSS, { saltLength: long }),
  ...keys('RSA-PSS', 'sig', named('PS1', 'PS256', 'PS384', 'PS512'), ['sign'], ['verify']),
});

const ciphering = (operation, type) => [
  { label: optional(bytes) },
  ({ label = zeroed(0) }, key, data) => {
    need(key, type);
    return must(made(operation, hashOf(key), label, key.material, data));
  },
];
define('RSA-OAEP', {
  encrypt: ciphering('rsa-encrypt', 'public'),
  decrypt: ciphering('rsa-decrypt', 'private'),
  ...keys('RSA-OAEP', 'enc', named('RSA-OAEP', 'RSA-OAEP-256', 'RSA-OAEP-384', 'RSA-OAEP-512'), ['decrypt', 'unwrapKey'], ['encrypt', 'wrapKey']),
});
