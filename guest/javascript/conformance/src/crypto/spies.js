// What an application that puts its own in the place of builtins sees of keys that are not extractable: nothing.

import { about, check, equal, ok } from '../check.js';
import { base64url, counting, text } from './bytes.js';

const { subtle } = crypto;
const { apply, ownKeys, getOwnPropertyDescriptor } = Reflect;

about('crypto.subtle: builtins that were replaced');

const has = (bytes, part) => {
  for (let at = 0; at + part.length <= bytes.length; at++) {
    let same = 0;
    while (same < part.length && bytes[at + same] === part[same]) same++;
    if (same === part.length) return true;
  }
  return false;
};

// Runs something while builtins tell what they are given, and what they give. Gives the names of those that saw the secret.
async function whatSees(secret, run) {
  const seen = new Set();
  const undo = [];
  const secretText = base64url(secret);
  const isSecret = (value, depth) => {
    if (typeof value === 'string') return value.includes(secretText);
    if (typeof value !== 'object' || value === null || depth > 3 || value === globalThis) return false;
    if (value instanceof ArrayBuffer) return has(new Uint8Array(value), secret);
    if (ArrayBuffer.isView(value)) return has(value, secret) || has(new Uint8Array(value.buffer), secret);
    return ownKeys(value).some((name) => isSecret(getOwnPropertyDescriptor(value, name).value, depth + 1));
  };
  // While it looks, what it calls itself is not looked at.
  let isLooking = false;
  const look = (what, ...values) => {
    isLooking = true;
    if (values.some((value) => isSecret(value, 0))) seen.add(what);
    isLooking = false;
  };
  const spying = (what, fn) =>
    function spy(...args) {
      if (isLooking) return apply(fn, this, args);
      look(what, this, args);
      const made = apply(fn, this, args);
      look(what, made);
      return made;
    };
  const spy = (holder, names) => {
    for (const name of names) {
      const descriptor = Object.getOwnPropertyDescriptor(holder, name);
      const member = descriptor.get === undefined ? 'value' : 'get';
      const changed = { ...descriptor, [member]: spying(String(name), descriptor[member]) };
      undo.push(() => Object.defineProperty(holder, name, descriptor));
      Object.defineProperty(holder, name, changed);
    }
  };
  const bait = (names) => {
    for (const name of names) {
      undo.push(() => delete Object.prototype[name]);
      Object.defineProperty(Object.prototype, name, {
        configurable: true,
        get: spying(`get ${name}`, () => undefined),
        set: spying(`set ${name}`, function set(value) {
          Object.defineProperty(this, name, { value, writable: true, enumerable: true, configurable: true });
        }),
      });
    }
  };
  bait(['use', 'ext', 'oth', 'alg', 'k', 'd', 'p', 'bytes', 'at', 'public', 'material', 'namedCurve', '0', '1']);
  const typed = Object.getPrototypeOf(Uint8Array.prototype);
  spy(typed, ['set', 'slice', 'subarray', 'every', 'length', 'buffer', 'byteOffset', 'byteLength']);
  spy(Object.getPrototypeOf(Uint8Array), ['from', 'of']);
  spy(Map.prototype, ['get', 'has']);
  spy(JSON, ['parse']);
  spy(TextDecoder.prototype, ['decode']);
  spy(RegExp.prototype, ['exec', 'test']);
  spy(String.prototype, ['charCodeAt', 'replace', 'split']);
  spy(globalThis, ['atob', 'btoa']);
  spy(Array.prototype, ['includes', 'indexOf', 'reduce', 'map', 'push', 'every', 'some', 'filter', Symbol.iterator]);
  spy(Object.getPrototypeOf([][Symbol.iterator]()), ['next']);
  try {
    await run();
  } finally {
    for (let last = undo.length - 1; last >= 0; last--) undo[last]();
  }
  return [...seen].sort();
}

const SECRET = counting(32, 0xa1);
const iv = counting(12);

// A key that comes in wrapped, so that only the runtime has it in the clear; and what is done with it.
const wrapped = async (format, content) => {
  const how = { name: 'AES-GCM', iv };
  const wrapper = await subtle.importKey('raw', counting(16), how, false, ['encrypt', 'unwrapKey']);
  const sealed = await subtle.encrypt(how, wrapper, content);
  return (algorithm, usages) => subtle.unwrapKey(format, sealed, wrapper, how, algorithm, false, usages);
};
const json = (value) => text(JSON.stringify(value));

check('spies see what they are given', async () => {
  const seen = await whatSees(SECRET, () => [SECRET].includes(SECRET.slice()));
  ok(seen.includes('slice') && seen.includes('includes'));
});
check('a secret of a JWK: encrypt', async () => {
  const unwrap = await wrapped('jwk', json({ kty: 'oct', k: base64url(SECRET) }));
  const seen = await whatSees(SECRET, async () => {
    const key = await unwrap('AES-GCM', ['encrypt']);
    await subtle.encrypt({ name: 'AES-GCM', iv }, key, text('x'));
  });
  equal(seen, []);
});
check('a secret of bytes: sign, verify, derive', async () => {
  const unwrap = await wrapped('raw', SECRET);
  const seen = await whatSees(SECRET, async () => {
    const key = await unwrap({ name: 'HMAC', hash: 'SHA-256' }, ['sign', 'verify']);
    await subtle.verify('HMAC', key, await subtle.sign('HMAC', key, text('x')), text('x'));
    const base = await unwrap('HKDF', ['deriveBits']);
    await subtle.deriveBits({ name: 'HKDF', hash: 'SHA-1', salt: iv, info: iv }, base, 128);
  });
  equal(seen, []);
});
check('a key of a curve: sign, derive', async () => {
  const prefix = { Ed25519: '302e020100300506032b657004220420', X25519: '302e020100300506032b656e04220420' };
  const pkcs8 = (name) => Uint8Array.from([...prefix[name].match(/../g).map((byte) => parseInt(byte, 16)), ...SECRET]);
  const [signing, deriving] = [await wrapped('pkcs8', pkcs8('Ed25519')), await wrapped('pkcs8', pkcs8('X25519'))];
  const { publicKey } = await subtle.generateKey('X25519', false, ['deriveBits']);
  const seen = await whatSees(SECRET, async () => {
    await subtle.sign('Ed25519', await signing('Ed25519', ['sign']), text('x'));
    await subtle.deriveBits({ name: 'X25519', public: publicKey }, await deriving('X25519', ['deriveBits']), 256);
  });
  equal(seen, []);
});
check('a key of RSA: sign', async () => {
  const how = { name: 'RSA-PSS', hash: 'SHA-256' };
  const shape = { ...how, modulusLength: 1024, publicExponent: Uint8Array.of(1, 0, 1) };
  const { privateKey } = await subtle.generateKey(shape, true, ['sign', 'verify']);
  const { p } = await subtle.exportKey('jwk', privateKey);
  const prime = Uint8Array.from(atob(p.replaceAll('-', '+').replaceAll('_', '/')), (letter) => letter.charCodeAt(0));
  const unwrap = await wrapped('pkcs8', new Uint8Array(await subtle.exportKey('pkcs8', privateKey)));
  const seen = await whatSees(prime, async () => {
    await subtle.sign({ name: 'RSA-PSS', saltLength: 32 }, await unwrap(how, ['sign']), text('x'));
  });
  equal(seen, []);
});
// All of it is in the engine's memory, and reading that is reading any key.
check('the memory of the engine', async ({ request }) => {
  const undo = [];
  const seen = new Set();
  const lengthOf = getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength').get;
  const bufferOf = getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'buffer').get;
  const isMemory = (value) => {
    if (!ArrayBuffer.isView(value) && !(value instanceof ArrayBuffer)) return false;
    const buffer = value instanceof ArrayBuffer ? value : value instanceof DataView ? value.buffer : apply(bufferOf, value, []);
    return apply(lengthOf, buffer, []) > 4_000_000;
  };
  const replace = (holder, names) => {
    for (const name of names) {
      const descriptor = getOwnPropertyDescriptor(holder, name);
      const member = descriptor.get === undefined ? 'value' : 'get';
      const fn = descriptor[member];
      undo.push(() => Object.defineProperty(holder, name, descriptor));
      Object.defineProperty(holder, name, {
        ...descriptor,
        [member](...args) {
          for (const value of [this, ...args]) if (isMemory(value)) seen.add(String(name));
          return apply(fn, this, args);
        },
      });
    }
  };
  const typed = Object.getPrototypeOf(Uint8Array.prototype);
  replace(typed, ['set', 'slice', 'subarray', 'fill', 'length', 'buffer', 'byteLength', Symbol.iterator]);
  replace(ArrayBuffer.prototype, ['byteLength', 'slice']);
  replace(TextDecoder.prototype, ['decode']);
  replace(TextEncoder.prototype, ['encode', 'encodeInto']);
  replace(Array, ['from']);
  try {
    const url = new URL('/bytes', request.url);
    const headers = { 'x-bytes': '\xe4\xf6' };
    await (await fetch(url, { headers })).text();
    const body = new Uint8Array(300_000);
    const stream = new ReadableStream({ start(c) { c.enqueue(body); c.close(); } });
    for (const one of [body, 'text', stream]) await (await fetch(new URL('/echo', request.url), { method: 'POST', body: one })).bytes();
    await new Promise((resolve) => setTimeout(resolve, 5));
    typed.fill.call(new Uint8Array(new ArrayBuffer(5_000_000)), 0);
  } finally {
    for (let last = undo.length - 1; last >= 0; last--) undo[last]();
  }
  // The last is what this check does itself.
  equal([...seen], ['fill']);
});
