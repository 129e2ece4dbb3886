// node:crypto, as far as it can do without a process. What has no counterpart here says so when it is called, since many packages
// import more than they call. Hashes are those of the native part where it is there, else those of @noble/hashes.

import { hkdf as nobleHkdf } from 'wasmhost:noble/hkdf';
import { hmac } from 'wasmhost:noble/hmac';
import { md5, ripemd160, sha1 } from 'wasmhost:noble/legacy';
import { pbkdf2 as noblePbkdf2 } from 'wasmhost:noble/pbkdf2';
import { scrypt as nobleScrypt } from 'wasmhost:noble/scrypt';
import { sha224, sha256, sha384, sha512, sha512_224, sha512_256 } from 'wasmhost:noble/sha2';

import { HASHES, hashNumber, isThere, made } from '../crypto/native.js';
import { Buffer } from './buffer.js';
import * as all from './crypto.js';

const functions = {
  md5,
  ripemd160,
  rmd160: ripemd160,
  sha1,
  sha224,
  sha256,
  sha384,
  sha512,
  'sha512-224': sha512_224,
  'sha512-256': sha512_256,
};
const FORMS = { sha1: 'SHA-1', sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' };

// What is known of a hash by its name: `sha256`, `SHA-256`, `RSA-SHA256`.
function hashOf(algorithm) {
  const lower = `${algorithm}`.toLowerCase().replace(/^rsa-/, '');
  const name = functions[lower] === undefined ? lower.replace('-', '') : lower;
  const run = functions[name];
  if (run === undefined) throw new Error('Digest method not supported');
  const number = hashNumber(FORMS[name]);
  return { run, number, isNative: number >= 0 && number < HASHES.length };
}

function bytesOf(data, encoding) {
  if (typeof data === 'string') return Buffer.from(data, encoding);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const error = new TypeError('The "data" argument must be of type string or an instance of Buffer, TypedArray, or DataView.');
  throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
}

const bufferOf = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const encoded = (bytes, encoding) =>
  encoding === undefined || encoding === 'buffer' ? bufferOf(bytes) : bufferOf(bytes).toString(encoding);

// The native part, or a function of @noble/hashes with these bytes.
function computed(hash, name, args, other) {
  const result = hash.isNative && isThere() ? made(name, hash.number, ...args) : other();
  if (result === null) throw new Error(`${name} failed`);
  return new Uint8Array(result);
}

class Digest {
  #chunks = [];
  #finish;

  constructor(finish, chunks = []) {
    this.#finish = finish;
    this.#chunks = chunks;
  }

  #open() {
    if (this.#chunks === null) throw Object.assign(new Error('Digest already called'), { code: 'ERR_CRYPTO_HASH_FINALIZED' });
    return this.#chunks;
  }

  // A copy: who gives bytes may change them.
  update(data, encoding) {
    this.#open().push(Uint8Array.from(bytesOf(data, encoding)));
    return this;
  }

  copy() {
    return new this.constructor(this.#finish, [...this.#open()]);
  }

  digest(encoding) {
    const whole = Buffer.concat(this.#open());
    this.#chunks = null;
    return encoded(this.#finish(whole), encoding);
  }
}

export class Hash extends Digest {}
export class Hmac extends Digest {}

export function createHash(algorithm) {
  const of = hashOf(algorithm);
  return new Hash((data) => computed(of, 'digest', [data], () => of.run(data)));
}

export function createHmac(algorithm, key) {
  const of = hashOf(algorithm);
  const secret = Uint8Array.from(bytesOf(key));
  return new Hmac((data) => computed(of, 'hmac', [secret, data], () => hmac(of.run, secret, data)));
}

export const hash = (algorithm, data, encoding = 'hex') => createHash(algorithm).update(data).digest(encoding);
export const getHashes = () => Object.keys(functions);

// Web Crypto gives at most this at once.
const RANDOM_MAX = 65_536;

export function randomFillSync(target, offset = 0, size = undefined) {
  const all = ArrayBuffer.isView(target) ? new Uint8Array(target.buffer, target.byteOffset, target.byteLength) : new Uint8Array(target);
  const bytes = all.subarray(offset, size === undefined ? undefined : offset + size);
  for (let at = 0; at < bytes.length; at += RANDOM_MAX) crypto.getRandomValues(bytes.subarray(at, at + RANDOM_MAX));
  return target;
}

// A function with a callback, of one without.
const calledBack = (compute) => (...args) => {
  const callback = args.pop();
  queueMicrotask(() => {
    let result;
    try {
      result = compute(...args);
    } catch (error) {
      callback(error);
      return;
    }
    callback(null, result);
  });
};

const randomBytesSync = (size) => randomFillSync(Buffer.alloc(size));
const randomBytesLater = calledBack(randomBytesSync);
export const randomBytes = (size, callback = undefined) =>
  callback === undefined ? randomBytesSync(size) : randomBytesLater(size, callback);
export const randomFill = calledBack(randomFillSync);
export const randomUUID = () => crypto.randomUUID();
export const getRandomValues = (array) => crypto.getRandomValues(array);

function randomIntSync(min, max) {
  if (max === undefined) return randomIntSync(0, min);
  const range = max - min;
  if (!(Number.isSafeInteger(min) && Number.isSafeInteger(max) && range > 0 && range < 2 ** 48)) {
    throw new RangeError('The value of "max" is out of range.');
  }
  // Numbers of the last, incomplete range would make some results likelier.
  const limit = 2 ** 48 - (2 ** 48 % range);
  for (;;) {
    const found = randomBytesSync(6).readUIntBE(0, 6);
    if (found < limit) return min + (found % range);
  }
}
const randomIntLater = calledBack(randomIntSync);
export const randomInt = (...args) => (typeof args.at(-1) === 'function' ? randomIntLater(...args) : randomIntSync(...args));

// As long whatever the bytes are.
export function timingSafeEqual(a, b) {
  const [left, right] = [bytesOf(a), bytesOf(b)];
  if (left.length !== right.length) {
    throw Object.assign(new RangeError('Input buffers must have the same byte length'), { code: 'ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH' });
  }
  let differences = 0;
  for (let index = 0; index < left.length; index++) differences |= left[index] ^ right[index];
  return differences === 0;
}

export function pbkdf2Sync(password, salt, iterations, length, algorithm) {
  const of = hashOf(algorithm);
  const [secret, salted] = [bytesOf(password), bytesOf(salt)];
  const other = () => noblePbkdf2(of.run, secret, salted, { c: iterations, dkLen: length });
  const args = [secret, salted, iterations, length];
  return bufferOf(computed(of, 'pbkdf2', args, other));
}
export const pbkdf2 = calledBack(pbkdf2Sync);

export function hkdfSync(algorithm, key, salt, info, length) {
  const of = hashOf(algorithm);
  const [secret, salted, told] = [bytesOf(key), bytesOf(salt), bytesOf(info)];
  return computed(of, 'hkdf', [secret, salted, told, length], () => nobleHkdf(of.run, secret, salted, told, length)).buffer;
}
export const hkdf = calledBack(hkdfSync);

export function scryptSync(password, salt, length, options = {}) {
  const { N = options.cost ?? 16_384, r = options.blockSize ?? 8, p = options.parallelization ?? 1 } = options;
  return bufferOf(nobleScrypt(bytesOf(password), bytesOf(salt), { N, r, p, dkLen: length }));
}
export const scrypt = (...args) => calledBack(scryptSync)(...args);

export const webcrypto = globalThis.crypto;
export const { subtle } = globalThis.crypto;
export const constants = {};

const missing = (name, instead) => () => {
  throw new Error(`node:crypto has no ${name} here: take ${instead}`);
};
export const createCipheriv = missing('createCipheriv', 'crypto.subtle.encrypt');
export const createDecipheriv = missing('createDecipheriv', 'crypto.subtle.decrypt');
export const createSign = missing('createSign', 'crypto.subtle.sign');
export const createVerify = missing('createVerify', 'crypto.subtle.verify');
export const sign = missing('sign', 'crypto.subtle.sign');
export const verify = missing('verify', 'crypto.subtle.verify');
export const createPrivateKey = missing('createPrivateKey', 'crypto.subtle.importKey');
export const createPublicKey = missing('createPublicKey', 'crypto.subtle.importKey');
export const createSecretKey = missing('createSecretKey', 'crypto.subtle.importKey');
export const generateKeyPair = missing('generateKeyPair', 'crypto.subtle.generateKey');
export const generateKeyPairSync = missing('generateKeyPairSync', 'crypto.subtle.generateKey');
export const publicEncrypt = missing('publicEncrypt', 'crypto.subtle.encrypt');
export const privateDecrypt = missing('privateDecrypt', 'crypto.subtle.decrypt');
export const createECDH = missing('createECDH', 'crypto.subtle.deriveBits');
export const createDiffieHellman = missing('createDiffieHellman', 'crypto.subtle.deriveBits');

export default all;
