// Hashes, HMAC, HKDF and PBKDF2.

import { about, check, equal, ok, throws } from '../check.js';
import { bytes, counting, hex, text } from './bytes.js';

const { subtle } = crypto;

about('crypto.subtle: digest, HMAC, HKDF, PBKDF2');

// NIST, "Examples with Intermediate Values": the message of two blocks.
for (const [name, value] of [
  ['SHA-1', '84983e441c3bd26ebaae4aa1f95129e5e54670f1'],
  ['SHA-256', '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1'],
  ['SHA-384', '3391fdddfc8dc7393707a65b1b4709397cf8b1d162af05abfe8f450de5f36bc6b0455a8520bc4e6f5fe95b1fe3c8452b'],
  ['SHA-512', '204a8fc6dda82f0a0ced7beb8e08a41657c16ef468b228a8279be331a703c33596fd15c13b1b07f9aa1d3bea57789ca031ad85c7a71dd70354ec631238ca3445'],
]) {
  check(`digest: ${name}, two blocks`, async () =>
    equal(hex(await subtle.digest(name, text('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq'))), value));
}
check('digest: a part of a buffer, and a name in lower case', async () => {
  const { buffer } = text('xabcx');
  equal(hex(await subtle.digest({ name: 'sha-1' }, new DataView(buffer, 1, 3))), 'a9993e364706816aba3e25717850c26c9cd0d89d');
});
check('digest: what is written to the data afterwards changes nothing', async () => {
  const data = text('abc');
  const made = subtle.digest('SHA-1', data);
  data[0] = 0;
  equal(hex(await made), 'a9993e364706816aba3e25717850c26c9cd0d89d');
});
check('digest: a megabyte of zeros', async () =>
  equal(hex(await subtle.digest('SHA-256', new Uint8Array(1 << 20))), '30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58'));

// RFC 2202, section 3, and RFC 4231, section 4.2: test case 1.
for (const [hash, value] of [
  ['SHA-1', 'b617318655057264e28bc0b6fb378c8ef146be00'],
  ['SHA-256', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
  ['SHA-384', 'afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6'],
  ['SHA-512', '87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854'],
]) {
  check(`HMAC with ${hash}: RFC 4231`, async () => {
    const key = await subtle.importKey('raw', new Uint8Array(20).fill(0x0b), { name: 'HMAC', hash }, false, ['sign', 'verify']);
    const made = await subtle.sign('HMAC', key, text('Hi There'));
    equal(hex(made), value);
    ok(await subtle.verify('HMAC', key, made, text('Hi There')));
    ok(!(await subtle.verify('HMAC', key, made.slice(1), text('Hi There'))));
  });
}
check('HMAC: generate, with the length of a block, and one that is asked for', async () => {
  const lengths = [];
  for (const how of [{ hash: 'SHA-1' }, { hash: 'SHA-512' }, { hash: 'SHA-256', length: 100 }]) {
    const key = await subtle.generateKey({ name: 'HMAC', ...how }, true, ['sign']);
    const raw = new Uint8Array(await subtle.exportKey('raw', key));
    lengths.push(key.algorithm.length, raw.length);
    ok(raw.some((byte) => byte !== 0));
  }
  equal(lengths, [512, 64, 1024, 128, 100, 13]);
});
check('HMAC: generate a long key, and refuse one that is too long', async () => {
  const key = await subtle.generateKey({ name: 'HMAC', hash: 'SHA-256', length: 8 * 200_000 }, true, ['sign']);
  const raw = new Uint8Array(await subtle.exportKey('raw', key));
  equal([raw.length, key.algorithm.length], [200_000, 1_600_000]);
  // All of it is random.
  for (const at of [0, 65_536, 131_072, 199_900]) ok(raw.subarray(at, at + 100).some((byte) => byte !== 0));
  await throws('OperationError', () => subtle.generateKey({ name: 'HMAC', hash: 'SHA-256', length: 2 ** 32 - 8 }, true, ['sign']));
});
check('HMAC: an empty key is a DataError', () =>
  throws('DataError', () => subtle.importKey('raw', new Uint8Array(0), { name: 'HMAC', hash: 'SHA-1' }, false, ['sign'])));

// RFC 5869, appendix A.1 and A.3.
check('HKDF with SHA-256: RFC 5869', async () => {
  const key = await subtle.importKey('raw', new Uint8Array(22).fill(0x0b), 'HKDF', false, ['deriveBits']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: counting(13), info: counting(10, 0xf0) };
  equal(
    hex(await subtle.deriveBits(how, key, 42 * 8)),
    '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
  );
  const bare = { ...how, salt: new Uint8Array(0), info: new Uint8Array(0) };
  equal(
    hex(await subtle.deriveBits(bare, key, 42 * 8)),
    '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
  );
});
check('HKDF: more than 255 times the hash is an OperationError', async () => {
  const key = await subtle.importKey('raw', text('x'), 'HKDF', false, ['deriveBits']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: new Uint8Array(0) };
  for (const length of [8 * (255 * 32 + 1), 2 ** 32 - 8]) await throws('OperationError', () => subtle.deriveBits(how, key, length));
  equal((await subtle.deriveBits(how, key, 8 * 255 * 32)).byteLength, 255 * 32);
});

// RFC 6070; RFC 7914, section 11; and the same password with the two other hashes, as OpenSSL has it.
for (const [hash, iterations, value] of [
  ['SHA-1', 1, '0c60c80f961f0e71f3a9b524af6012062fe037a6'],
  ['SHA-1', 4096, '4b007901b765489abead49d926f721d065a429c1'],
]) {
  check(`PBKDF2 with ${hash}, iterated ${iterations} times: RFC 6070`, async () => {
    const key = await subtle.importKey('raw', text('password'), 'PBKDF2', false, ['deriveBits']);
    equal(hex(await subtle.deriveBits({ name: 'PBKDF2', hash, salt: text('salt'), iterations }, key, 160)), value);
  });
}
check('PBKDF2 with SHA-256: RFC 7914', async () => {
  const key = await subtle.importKey('raw', text('passwd'), 'PBKDF2', false, ['deriveBits']);
  const how = { name: 'PBKDF2', hash: 'SHA-256', salt: text('salt'), iterations: 1 };
  equal(
    hex(await subtle.deriveBits(how, key, 512)),
    '55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783',
  );
});
check('PBKDF2: a key of AES is derived', async () => {
  const key = await subtle.importKey('raw', text('passwd'), 'PBKDF2', false, ['deriveKey']);
  const how = { name: 'PBKDF2', hash: 'SHA-256', salt: text('salt'), iterations: 1 };
  const derived = await subtle.deriveKey(how, key, { name: 'AES-GCM', length: 128 }, true, ['encrypt']);
  equal([derived.type, derived.algorithm, derived.usages], ['secret', { name: 'AES-GCM', length: 128 }, ['encrypt']]);
  equal(hex(await subtle.exportKey('raw', derived)), '55ac046e56e3089fec1691c22544b605');
});
check('PBKDF2 and HKDF: a key is never extractable, and has no other format', async () => {
  for (const name of ['PBKDF2', 'HKDF']) {
    await throws('SyntaxError', () => subtle.importKey('raw', text('x'), name, true, ['deriveBits']));
    await throws('SyntaxError', () => subtle.importKey('raw', text('x'), name, false, ['sign']));
    await throws('NotSupportedError', () => subtle.importKey('jwk', { kty: 'oct', k: 'eA' }, name, false, ['deriveBits']));
    const key = await subtle.importKey('raw', text('x'), name, false, ['deriveBits']);
    await throws('NotSupportedError', () => subtle.exportKey('raw', key));
  }
});
check('PBKDF2: no iteration, or a length that is no number of bytes, is an OperationError', async () => {
  const key = await subtle.importKey('raw', text('x'), 'PBKDF2', false, ['deriveBits']);
  const how = { name: 'PBKDF2', hash: 'SHA-256', salt: bytes(''), iterations: 1 };
  await throws('OperationError', () => subtle.deriveBits({ ...how, iterations: 0 }, key, 8));
  // There is no memory for so much.
  await throws('OperationError', () => subtle.deriveBits(how, key, 2 ** 32 - 8));
  await throws('OperationError', () => subtle.deriveBits(how, key, 9));
  await throws('OperationError', () => subtle.deriveBits(how, key, null));
});
