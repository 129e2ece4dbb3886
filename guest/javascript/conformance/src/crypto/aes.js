// AES: test vectors of NIST, and of those who designed GCM.

import { about, check, equal, ok, throws } from '../check.js';
import { bytes, counting, hex, text } from './bytes.js';

const { subtle } = crypto;
const keyOf = (name, raw, usages = ['encrypt', 'decrypt']) => subtle.importKey('raw', raw, name, false, usages);

about('crypto.subtle: AES');

// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B: test cases 4 to 6 and 16.
const PLAIN = bytes(`d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
  1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39`);
const additionalData = bytes('feedfacedeadbeeffeedfacedeadbeefabaddad2');
const KEY = 'feffe9928665731c6d6a8f9467308308';
for (const [what, key, iv, sealed] of [
  [
    'a key of 128 bits',
    KEY,
    'cafebabefacedbaddecaf888',
    `42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
     21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091 5bc94fbc3221a5db94fae95ae7121a47`,
  ],
  [
    'an iv of 8 bytes',
    KEY,
    'cafebabefacedbad',
    `61353b4c2806934a777ff51fa22a4755699b2a714fcdc6f83766e5f97b6c7423
     73806900e49f24b22b097544d4896b424989b5e1ebac0f07c23f4598 3612d2e79e3b0785561be14aaca2fccb`,
  ],
  [
    'an iv of 60 bytes',
    KEY,
    `9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728
     c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b`,
    `8ce24998625615b603a033aca13fb894be9112a5c3a211a8ba262a3cca7e2ca7
     01e4a9a4fba43c90ccdcb281d48c7c6fd62875d2aca417034c34aee5 619cc5aefffe0bfa462af43c1699d050`,
  ],
  [
    'a key of 256 bits',
    KEY + KEY,
    'cafebabefacedbaddecaf888',
    `522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
     8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b`,
  ],
]) {
  check(`AES-GCM: ${what}`, async () => {
    const made = await keyOf('AES-GCM', bytes(key));
    const how = { name: 'AES-GCM', iv: bytes(iv), additionalData };
    equal(hex(await subtle.encrypt(how, made, PLAIN)), hex(bytes(sealed)));
    equal(hex(await subtle.decrypt(how, made, bytes(sealed))), hex(PLAIN));
    // A shorter tag is the beginning of the long one.
    const short = await subtle.encrypt({ ...how, tagLength: 96 }, made, PLAIN);
    equal(hex(short), hex(bytes(sealed).slice(0, -4)));
    equal(hex(await subtle.decrypt({ ...how, tagLength: 96 }, made, short)), hex(PLAIN));
  });
}
check('AES-GCM: what was changed is an OperationError', async () => {
  const key = await keyOf('AES-GCM', bytes(KEY));
  const how = { name: 'AES-GCM', iv: counting(12) };
  const sealed = new Uint8Array(await subtle.encrypt(how, key, PLAIN));
  for (const at of [0, PLAIN.length, sealed.length - 1]) {
    const changed = sealed.slice();
    changed[at] ^= 1;
    await throws('OperationError', () => subtle.decrypt(how, key, changed));
  }
  await throws('OperationError', () => subtle.decrypt({ ...how, additionalData }, key, sealed));
  await throws('OperationError', () => subtle.decrypt(how, key, sealed.slice(0, 15)));
});
check('AES-GCM: no such length of a tag is an OperationError', async () => {
  const key = await keyOf('AES-GCM', bytes(KEY));
  for (const tagLength of [0, 33, 127]) {
    await throws('OperationError', () => subtle.encrypt({ name: 'AES-GCM', iv: counting(12), tagLength }, key, PLAIN));
  }
  await throws('TypeError', () => subtle.encrypt({ name: 'AES-GCM', iv: counting(12), tagLength: 256 }, key, PLAIN));
});

// NIST SP 800-38A, appendix F: the four blocks, the key of 128 bits and the one of 256 bits.
const BLOCKS = bytes(`6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
  30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710`);
const SHORT_KEY = '2b7e151628aed2a6abf7158809cf4f3c';
const MIDDLE_KEY = '8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b';
const LONG_KEY = '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4';
for (const [what, key, sealed] of [
  [
    'F.2.1, 128 bits',
    SHORT_KEY,
    `7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
     73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7`,
  ],
  [
    'F.2.3, 192 bits',
    MIDDLE_KEY,
    `4f021db243bc633d7178183a9fa071e8 b4d9ada9ad7dedf4e5e738763f69145a
     571b242012fb7ae07fa9baac3df102e0 08b0e27988598881d920a9e64f5615cd`,
  ],
  [
    'F.2.5, 256 bits',
    LONG_KEY,
    `f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
     39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b`,
  ],
]) {
  check(`AES-CBC: SP 800-38A, ${what}`, async () => {
    const made = await keyOf('AES-CBC', bytes(key));
    const how = { name: 'AES-CBC', iv: counting(16) };
    const found = await subtle.encrypt(how, made, BLOCKS);
    // Behind these comes a block of padding.
    equal([found.byteLength, hex(found.slice(0, 64))], [80, hex(bytes(sealed))]);
    equal(hex(await subtle.decrypt(how, made, found)), hex(BLOCKS));
  });
}
check('AES-CBC: a wrong padding, iv or length is an OperationError', async () => {
  const key = await keyOf('AES-CBC', bytes(SHORT_KEY));
  const how = { name: 'AES-CBC', iv: counting(16) };
  await throws('OperationError', () => subtle.decrypt(how, key, new Uint8Array(16)));
  await throws('OperationError', () => subtle.decrypt(how, key, new Uint8Array(15)));
  await throws('OperationError', () => subtle.decrypt(how, key, new Uint8Array(0)));
  await throws('OperationError', () => subtle.encrypt({ ...how, iv: counting(15) }, key, BLOCKS));
});

for (const [what, key, sealed] of [
  [
    'F.5.1, 128 bits',
    SHORT_KEY,
    `874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff
     5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee`,
  ],
  [
    'F.5.5, 256 bits',
    LONG_KEY,
    `601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5
     2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6`,
  ],
]) {
  check(`AES-CTR: SP 800-38A, ${what}`, async () => {
    const made = await keyOf('AES-CTR', bytes(key));
    for (const length of [64, 128]) {
      const how = { name: 'AES-CTR', counter: counting(16, 0xf0), length };
      equal(hex(await subtle.encrypt(how, made, BLOCKS)), hex(bytes(sealed)));
      equal(hex(await subtle.decrypt(how, made, bytes(sealed).slice(0, 21))), hex(BLOCKS.slice(0, 21)));
    }
  });
}
check('AES-CTR: the counter begins again, and the rest of its block stays', async () => {
  const key = await keyOf('AES-CTR', bytes(SHORT_KEY));
  const blockAt = async (last) => {
    const counter = counting(16, 0xf0);
    counter[15] = last;
    return hex(await subtle.encrypt({ name: 'AES-CTR', counter, length: 128 }, key, new Uint8Array(16)));
  };
  const counter = counting(16, 0xf0);
  // Four bits count: from 14 on they are 14, 15, 0.
  counter[15] = 0xfe;
  const found = await subtle.encrypt({ name: 'AES-CTR', counter, length: 4 }, key, new Uint8Array(48));
  equal(hex(found), (await blockAt(0xfe)) + (await blockAt(0xff)) + (await blockAt(0xf0)));
  await throws('OperationError', () => subtle.encrypt({ name: 'AES-CTR', counter, length: 4 }, key, new Uint8Array(16 * 16 + 1)));
  equal((await subtle.encrypt({ name: 'AES-CTR', counter, length: 4 }, key, new Uint8Array(16 * 16))).byteLength, 256);
  for (const length of [0, 129]) {
    await throws('OperationError', () => subtle.encrypt({ name: 'AES-CTR', counter, length }, key, BLOCKS));
  }
});

// RFC 3394, sections 4.1, 4.3 and 4.6.
for (const [what, kek, key, wrapped] of [
  ['4.1', 16, '00112233445566778899aabbccddeeff', '1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5'],
  ['4.3', 32, '00112233445566778899aabbccddeeff', '64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7'],
  [
    '4.6',
    32,
    '00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f',
    '28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21',
  ],
]) {
  check(`AES-KW: RFC 3394, section ${what}`, async () => {
    const wrapper = await keyOf('AES-KW', counting(kek), ['wrapKey', 'unwrapKey']);
    const inner = await subtle.importKey('raw', bytes(key), 'AES-GCM', true, ['encrypt']);
    equal(hex(await subtle.wrapKey('raw', inner, wrapper, 'AES-KW')), wrapped);
    const found = await subtle.unwrapKey('raw', bytes(wrapped), wrapper, 'AES-KW', 'AES-GCM', true, ['encrypt']);
    equal(hex(await subtle.exportKey('raw', found)), key);
    const changed = bytes(wrapped);
    changed[3] ^= 1;
    await throws('OperationError', () => subtle.unwrapKey('raw', changed, wrapper, 'AES-KW', 'AES-GCM', true, ['encrypt']));
  });
}
check('AES: generate in all lengths, and no other', async () => {
  for (const name of ['AES-CBC', 'AES-CTR', 'AES-GCM', 'AES-KW']) {
    const usages = name === 'AES-KW' ? ['wrapKey'] : ['encrypt', 'wrapKey'];
    for (const length of [128, 192, 256]) {
      const key = await subtle.generateKey({ name, length }, true, usages);
      equal([key.type, key.algorithm, key.usages], ['secret', { name, length }, usages]);
      equal((await subtle.exportKey('raw', key)).byteLength, length / 8);
    }
    await throws('OperationError', () => subtle.generateKey({ name, length: 64 }, true, usages));
    await throws('SyntaxError', () => subtle.generateKey({ name, length: 128 }, true, ['sign']));
    await throws('SyntaxError', () => subtle.generateKey({ name, length: 128 }, true, []));
  }
  const twice = await Promise.all([0, 1].map(() => subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt'])));
  const [one, other] = await Promise.all(twice.map((key) => subtle.exportKey('raw', key)));
  ok(hex(one) !== hex(other));
});
check('AES: text of a stream of its own length', async () => {
  const key = await subtle.generateKey({ name: 'AES-CTR', length: 192 }, false, ['encrypt', 'decrypt']);
  const how = { name: 'AES-CTR', counter: new Uint8Array(16), length: 64 };
  const found = await subtle.decrypt(how, key, await subtle.encrypt(how, key, text('Grüße')));
  equal(new TextDecoder().decode(found), 'Grüße');
});
