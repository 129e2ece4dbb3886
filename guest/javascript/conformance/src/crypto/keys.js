// CryptoKey, wrapping, and which errors there are in which order.

import { about, check, equal, ok, throws } from '../check.js';
import { counting, hex, text } from './bytes.js';

const { subtle } = crypto;

about('crypto.subtle: keys, errors');

check('CryptoKey: cannot be made, and its attributes cannot be written', async () => {
  await throws('TypeError', () => new CryptoKey());
  await throws('TypeError', () => new SubtleCrypto());
  const key = await subtle.generateKey({ name: 'AES-GCM', length: 128 }, false, ['encrypt']);
  ok(key instanceof CryptoKey && subtle instanceof SubtleCrypto && crypto.subtle === subtle);
  equal([String(key), String(subtle)], ['[object CryptoKey]', '[object SubtleCrypto]']);
  key.algorithm.name = 'AES-CBC';
  key.usages.push('decrypt');
  ok(key.algorithm === key.algorithm && key.usages === key.usages);
  const sealed = await subtle.encrypt({ name: 'AES-GCM', iv: counting(12) }, key, text('x'));
  await throws('InvalidAccessError', () => subtle.decrypt({ name: 'AES-GCM', iv: counting(12) }, key, sealed));
  await throws('InvalidAccessError', () => subtle.exportKey('raw', key));
});
check('CryptoKey: its uses are in the order of the standard, each once', async () => {
  const key = await subtle.importKey('raw', counting(16), 'AES-CBC', true, ['unwrapKey', 'decrypt', 'encrypt', 'decrypt']);
  equal(key.usages, ['encrypt', 'decrypt', 'unwrapKey']);
});
check('importKey: a JWK of a secret', async () => {
  const jwk = { kty: 'oct', k: 'AAECAwQFBgcICQoLDA0ODw', alg: 'A128GCM', use: 'enc', key_ops: ['encrypt', 'decrypt'], ext: true };
  const key = await subtle.importKey('jwk', jwk, 'AES-GCM', true, ['encrypt']);
  equal(hex(await subtle.exportKey('raw', key)), '000102030405060708090a0b0c0d0e0f');
  equal(await subtle.exportKey('jwk', key).then(({ kty, k, alg, key_ops, ext }) => [kty, k, alg, key_ops, ext]), ['oct', jwk.k, 'A128GCM', ['encrypt'], true]);
  for (const wrong of [
    { kty: 'RSA' },
    { k: undefined },
    { k: 'AAEC+w' },
    { k: 'AAEC' },
    { alg: 'A256GCM' },
    { use: 'sig' },
    { key_ops: ['decrypt'] },
    { key_ops: ['encrypt', 'encrypt'] },
    { ext: false },
  ]) {
    await throws('DataError', () => subtle.importKey('jwk', { ...jwk, ...wrong }, 'AES-GCM', true, ['encrypt']));
  }
});
check('importKey: the errors', async () => {
  const aes = (format, data, algorithm, usages) => subtle.importKey(format, data, algorithm, true, usages);
  await throws('NotSupportedError', () => aes('raw', counting(16), 'AES-ECB', ['encrypt']));
  await throws('NotSupportedError', () => aes('spki', counting(16), 'AES-GCM', ['encrypt']));
  await throws('TypeError', () => aes('pem', counting(16), 'AES-GCM', ['encrypt']));
  await throws('TypeError', () => aes('raw', counting(16), 'AES-GCM', ['seal']));
  await throws('TypeError', () => aes('raw', { kty: 'oct' }, 'AES-GCM', ['encrypt']));
  await throws('TypeError', () => aes('jwk', counting(16), 'AES-GCM', ['encrypt']));
  await throws('TypeError', () => aes('raw', 'text', 'AES-GCM', ['encrypt']));
  await throws('TypeError', () => aes('raw', counting(16), { name: 'HMAC' }, ['sign']));
  await throws('TypeError', () => aes('raw', counting(16), {}, ['sign']));
  await throws('SyntaxError', () => aes('raw', counting(16), 'AES-GCM', ['sign']));
  await throws('SyntaxError', () => aes('raw', counting(16), 'AES-GCM', []));
  await throws('DataError', () => aes('raw', counting(15), 'AES-GCM', ['encrypt']));
  // What is named wrongly is found before what is wrong with the key, its uses before its bytes.
  await throws('NotSupportedError', () => aes('raw', counting(15), 'AES-ECB', []));
  await throws('SyntaxError', () => aes('raw', counting(15), 'AES-GCM', ['sign']));
});
check('a key is for its algorithm and its uses', async () => {
  const key = await subtle.importKey('raw', counting(16), 'AES-GCM', false, ['encrypt']);
  await throws('InvalidAccessError', () => subtle.encrypt({ name: 'AES-CBC', iv: counting(16) }, key, text('x')));
  await throws('InvalidAccessError', () => subtle.decrypt({ name: 'AES-GCM', iv: counting(12) }, key, text('x')));
  await throws('NotSupportedError', () => subtle.sign('AES-GCM', key, text('x')));
  await throws('TypeError', () => subtle.encrypt('AES-GCM', key, text('x')));
  await throws('TypeError', () => subtle.encrypt({ name: 'AES-GCM', iv: counting(12) }, {}, text('x')));
  await throws('TypeError', () => subtle.encrypt({ name: 'AES-GCM', iv: counting(12) }, key, 'x'));
  const hmac = await subtle.importKey('raw', counting(16), { name: 'HMAC', hash: 'SHA-256' }, false, ['verify']);
  await throws('InvalidAccessError', () => subtle.sign('HMAC', hmac, text('x')));
});
check('all methods answer with promises, whatever is wrong', async () => {
  for (const name of ['encrypt', 'decrypt', 'sign', 'verify', 'digest', 'generateKey', 'deriveKey', 'deriveBits', 'importKey', 'exportKey', 'wrapKey', 'unwrapKey']) {
    const given = subtle[name]();
    ok(given instanceof Promise);
    await throws('TypeError', () => given);
  }
});
check('wrapKey, unwrapKey: every algorithm, and keys in several formats', async () => {
  const iv = counting(16);
  const rsa = { name: 'RSA-OAEP', modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1), hash: 'SHA-1' };
  const pair = await subtle.generateKey(rsa, false, ['wrapKey', 'unwrapKey']);
  const inner = await subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
  const { privateKey } = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const raw = hex(await subtle.exportKey('raw', inner));
  for (const how of [{ name: 'AES-GCM', iv }, { name: 'AES-CBC', iv }, { name: 'AES-CTR', counter: iv, length: 64 }, { name: 'AES-KW' }, { name: 'RSA-OAEP' }]) {
    const key = how.name === 'RSA-OAEP' ? null : await subtle.generateKey({ name: how.name, length: 256 }, false, ['wrapKey', 'unwrapKey']);
    const [wrapper, unwrapper] = [key ?? pair.publicKey, key ?? pair.privateKey];
    const wrapped = await subtle.wrapKey('raw', inner, wrapper, how);
    const found = await subtle.unwrapKey('raw', wrapped, unwrapper, how, { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
    equal([hex(await subtle.exportKey('raw', found)), found.usages], [raw, ['sign']]);
    // A JWK has no length that AES-KW or RSA could take.
    if (['AES-KW', 'RSA-OAEP'].includes(how.name)) continue;
    for (const format of ['jwk', 'pkcs8']) {
      const sealed = await subtle.wrapKey(format, privateKey, wrapper, how);
      const again = await subtle.unwrapKey(format, sealed, unwrapper, how, { name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign']);
      equal(hex(await subtle.exportKey('pkcs8', again)), hex(await subtle.exportKey('pkcs8', privateKey)));
    }
  }
});
check('wrapKey, unwrapKey: the errors', async () => {
  const key = await subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['wrapKey', 'unwrapKey', 'encrypt']);
  const how = { name: 'AES-GCM', iv: counting(12) };
  await throws('InvalidAccessError', () => subtle.wrapKey('raw', key, key, how));
  const inner = await subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt']);
  await throws('InvalidAccessError', () => subtle.wrapKey('raw', inner, inner, how));
  const sealed = await subtle.encrypt(how, key, text('{"no":"key"}'));
  await throws('DataError', () => subtle.unwrapKey('jwk', sealed, key, how, 'AES-GCM', true, ['encrypt']));
  await throws('DataError', () => subtle.unwrapKey('raw', sealed, key, how, 'AES-GCM', true, ['encrypt']));
  await throws('OperationError', () => subtle.unwrapKey('raw', text('nothing that was wrapped'), key, how, 'AES-GCM', true, ['encrypt']));
  await throws('SyntaxError', async () => subtle.unwrapKey('raw', await subtle.wrapKey('raw', inner, key, how), key, how, 'AES-GCM', true, []));
});
check('deriveKey: HMAC of HKDF, with the length of a block unless one is asked for', async () => {
  const base = await subtle.importKey('raw', text('x'), 'HKDF', false, ['deriveKey']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: new Uint8Array(0) };
  const lengths = [];
  for (const length of [undefined, 256]) {
    const kind = length === undefined ? { name: 'HMAC', hash: 'SHA-384' } : { name: 'HMAC', hash: 'SHA-384', length };
    lengths.push((await subtle.deriveKey(how, base, kind, false, ['sign'])).algorithm.length);
  }
  equal(lengths, [1024, 256]);
  await throws('InvalidAccessError', () => subtle.deriveBits(how, base, 8));
});
check('crypto.getRandomValues: arrays of whole numbers only', async () => {
  const array = new Uint16Array(8);
  ok(crypto.getRandomValues(array) === array && array.some((one) => one !== 0));
  ok(crypto.getRandomValues(new BigUint64Array(2)).some((one) => one !== 0n));
  await throws('TypeMismatchError', () => crypto.getRandomValues(new Float32Array(1)));
  await throws('TypeMismatchError', () => crypto.getRandomValues(new DataView(new ArrayBuffer(1))));
});
check('bytes: of a buffer that was given away there are none', async () => {
  const empty = 'da39a3ee5e6b4b0d3255bfef95601890afd80709';
  for (const of of [(buffer) => buffer, (buffer) => new Uint8Array(buffer, 4), (buffer) => new DataView(buffer, 4)]) {
    const buffer = new ArrayBuffer(16);
    const view = of(buffer);
    structuredClone(buffer, { transfer: [buffer] });
    equal(hex(await subtle.digest('SHA-1', view)), empty);
  }
});
check('bytes: properties of the object itself are not asked', async () => {
  const data = text('abc');
  Object.defineProperties(data, { byteLength: { value: 1 }, byteOffset: { value: 1 }, length: { value: 1 } });
  equal(hex(await subtle.digest('SHA-1', data)), 'a9993e364706816aba3e25717850c26c9cd0d89d');
});
check('what is no bytes is a TypeError before the algorithm is looked at', async () => {
  const key = await subtle.importKey('raw', counting(16), 'AES-GCM', false, ['encrypt', 'decrypt', 'unwrapKey']);
  const none = { name: 'none' };
  for (const operation of ['encrypt', 'decrypt', 'sign']) await throws('TypeError', () => subtle[operation](none, key, 'x'));
  await throws('TypeError', () => subtle.verify(none, key, 'x', text('x')));
  await throws('TypeError', () => subtle.verify(none, key, text('x'), [1]));
  await throws('TypeError', () => subtle.digest(none, 'x'));
  await throws('TypeError', () => subtle.unwrapKey('raw', 'x', key, none, none, true, []));
  await throws('NotSupportedError', () => subtle.encrypt(none, key, text('x')));
});
check('timingSafeEqual (of Workers)', async () => {
  const same = (a, b) => subtle.timingSafeEqual(a, b);
  equal([same(text('abc'), text('abc')), same(text('abc'), text('abd')), same(text('abc').buffer, new DataView(text('abc').buffer))], [true, false, true]);
  equal([same(new Uint8Array(0), new ArrayBuffer(0)), same(new Uint16Array([1]), Uint8Array.of(1, 0))], [true, true]);
  for (const [a, b] of [[text('a'), text('ab')], ['a', 'a'], [text('a')], [[1], [1]]]) await throws('TypeError', () => same(...(b === undefined ? [a] : [a, b])));
  await throws('TypeError', () => subtle.timingSafeEqual.call({}, text('a'), text('a')));
});
check('the methods are for crypto.subtle', async () => {
  const { digest, importKey } = SubtleCrypto.prototype;
  for (const self of [undefined, {}, Object.create(SubtleCrypto.prototype)]) {
    await throws('TypeError', () => digest.call(self, 'SHA-1', text('x')));
    await throws('TypeError', () => importKey.call(self, 'raw', counting(16), 'AES-GCM', false, ['encrypt']));
  }
});
check('importKey: key_ops of a JWK has to be a list', async () => {
  const jwk = { kty: 'oct', k: 'AAECAwQFBgcICQoLDA0ODw' };
  for (const key_ops of ['encrypt', 1, {}, null]) {
    await throws('TypeError', () => subtle.importKey('jwk', { ...jwk, key_ops }, 'AES-GCM', true, ['encrypt']));
  }
});
check('structuredClone: of a key nothing is left', async () => {
  const key = await subtle.importKey('raw', counting(16), 'AES-GCM', true, ['encrypt']);
  const clone = structuredClone(key);
  await throws('TypeError', () => subtle.exportKey('raw', clone));
});
