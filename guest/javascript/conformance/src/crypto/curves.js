// ECDSA and ECDH on the curves of NIST, Ed25519 and X25519.

import { about, check, equal, ok, throws } from '../check.js';
import { base64url, bytes, hex, text } from './bytes.js';

const { subtle } = crypto;

about('crypto.subtle: ECDSA, ECDH');

const ALL = ['sign', 'verify'];
const NIST = [
  ['P-256', 32, 'ES256'],
  ['P-384', 48, 'ES384'],
  ['P-521', 66, 'ES512'],
];

// RFC 6979, appendices A.2.5 to A.2.7: the private key, the public one, and the signature of "sample" with the hash of the
// curve's length.
const SIGNED = {
  'P-256': {
    hash: 'SHA-256',
    d: 'c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721',
    x: '60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6',
    y: '7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299',
    signature: `efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716
      f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8`,
  },
  'P-384': {
    hash: 'SHA-384',
    d: '6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5',
    x: 'ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13',
    y: '8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720',
    signature: `94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46
      99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8`,
  },
  'P-521': {
    hash: 'SHA-512',
    d: `00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc
      1466f6d8fbec67db89ec0c08b0e996b83538`,
    x: `01894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633
      155d38ffa16d2bd761dcac474b9a2f5023a4`,
    y: `00493101c962cd4d2fddf782285e64584139c2f91b47f87ff82354d6630f746a28a0db25741b5b34a828008b22acc23f
      924faafbd4d33f81ea66956dfeaa2bfdfcf5`,
    signature: `00c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f174e25a1ee9017b5d450606add152b53
      4931d7d4e8455cc91f9b15bf05ec36e377fa
      00617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af282623eaa63e5b5c0723d8b8c37ff077
      7b1a20f8ccb1dccc43997f1ee0e44da4a67a`,
  },
};

const jwkOf = (crv, { x, y, d }, isPrivate) => {
  const jwk = { kty: 'EC', crv, x: base64url(bytes(x)), y: base64url(bytes(y)) };
  return isPrivate ? { ...jwk, d: base64url(bytes(d)) } : jwk;
};

for (const [namedCurve, length] of NIST) {
  const vector = SIGNED[namedCurve];
  check(`ECDSA with ${namedCurve}: RFC 6979`, async () => {
    const of = { name: 'ECDSA', namedCurve };
    const how = { name: 'ECDSA', hash: vector.hash };
    const publicKey = await subtle.importKey('jwk', jwkOf(namedCurve, vector), of, true, ['verify']);
    const privateKey = await subtle.importKey('jwk', jwkOf(namedCurve, vector, true), of, true, ['sign']);
    ok(await subtle.verify(how, publicKey, bytes(vector.signature), text('sample')));
    ok(!(await subtle.verify(how, publicKey, bytes(vector.signature), text('Sample'))));
    const made = await subtle.sign(how, privateKey, text('sample'));
    equal(made.byteLength, 2 * length);
    ok(await subtle.verify(how, publicKey, made, text('sample')));
    ok(!(await subtle.verify(how, publicKey, made.slice(1), text('sample'))));
    ok(!(await subtle.verify(how, publicKey, new Uint8Array(2 * length), text('sample'))));
  });
  check(`ECDSA with ${namedCurve}: generate, and every hash`, async () => {
    const { publicKey, privateKey } = await subtle.generateKey({ name: 'ECDSA', namedCurve }, false, ALL);
    equal([publicKey.type, publicKey.extractable, publicKey.usages], ['public', true, ['verify']]);
    equal([privateKey.type, privateKey.extractable, privateKey.usages], ['private', false, ['sign']]);
    for (const hash of ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512']) {
      const signature = await subtle.sign({ name: 'ECDSA', hash }, privateKey, text('x'));
      ok(await subtle.verify({ name: 'ECDSA', hash: { name: hash } }, publicKey, signature, text('x')));
      const another = hash === 'SHA-1' ? 'SHA-256' : 'SHA-1';
      ok(!(await subtle.verify({ name: 'ECDSA', hash: another }, publicKey, signature, text('x'))));
    }
  });
  check(`ECDH with ${namedCurve}: both sides have the same, in all formats of keys`, async () => {
    const of = { name: 'ECDH', namedCurve };
    const [one, other] = await Promise.all([0, 1].map(() => subtle.generateKey(of, true, ['deriveBits'])));
    const secret = hex(await subtle.deriveBits({ name: 'ECDH', public: other.publicKey }, one.privateKey, null));
    equal(secret.length, 2 * length);
    for (const format of ['raw', 'spki', 'jwk']) {
      const publicKey = await subtle.importKey(format, await subtle.exportKey(format, one.publicKey), of, true, []);
      equal(hex(await subtle.deriveBits({ name: 'ECDH', public: publicKey }, other.privateKey, 8 * length)), secret);
    }
    for (const format of ['pkcs8', 'jwk']) {
      const privateKey = await subtle.importKey(format, await subtle.exportKey(format, one.privateKey), of, true, ['deriveBits']);
      equal(hex(await subtle.deriveBits({ name: 'ECDH', public: other.publicKey }, privateKey, 8 * length)), secret);
    }
  });
}

// RFC 5903, section 8.1.
check('ECDH with P-256: RFC 5903', async () => {
  const of = { name: 'ECDH', namedCurve: 'P-256' };
  const [i, r] = [
    {
      d: 'c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433',
      x: 'dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180',
      y: '5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3',
    },
    {
      d: 'c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53',
      x: 'd12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63',
      y: '56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab',
    },
  ];
  const privateKey = await subtle.importKey('jwk', jwkOf('P-256', i, true), of, false, ['deriveBits']);
  const publicKey = await subtle.importKey('raw', bytes(`04${r.x}${r.y}`), of, false, []);
  const how = { name: 'ECDH', public: publicKey };
  equal(hex(await subtle.deriveBits(how, privateKey, 256)), 'd6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de');
  // Fewer bits are its beginning; the last byte has no more than were asked for.
  equal(hex(await subtle.deriveBits(how, privateKey, 12)), 'd680');
  await throws('OperationError', () => subtle.deriveBits(how, privateKey, 264));
});
check('ECDH: a key of AES is derived', async () => {
  const pair = await subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveKey']);
  const how = { name: 'ECDH', public: pair.publicKey };
  const key = await subtle.deriveKey(how, pair.privateKey, { name: 'AES-GCM', length: 256 }, false, ['encrypt']);
  equal([key.algorithm, key.extractable], [{ name: 'AES-GCM', length: 256 }, false]);
});
check('ECDH: keys of another curve, algorithm or type are an InvalidAccessError', async () => {
  const pair = await subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits']);
  const other = await subtle.generateKey({ name: 'ECDH', namedCurve: 'P-384' }, false, ['deriveBits']);
  const signing = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ALL);
  const derive = (publicKey, key) => subtle.deriveBits({ name: 'ECDH', public: publicKey }, key, 256);
  await throws('InvalidAccessError', () => derive(other.publicKey, pair.privateKey));
  await throws('InvalidAccessError', () => derive(signing.publicKey, pair.privateKey));
  await throws('InvalidAccessError', () => derive(pair.privateKey, pair.privateKey));
  await throws('InvalidAccessError', () => derive(pair.publicKey, pair.publicKey));
});
check('ECDSA: keys are written and read in all formats', async () => {
  for (const [namedCurve, length, alg] of NIST) {
    const of = { name: 'ECDSA', namedCurve };
    const { publicKey, privateKey } = await subtle.generateKey(of, true, ALL);
    const jwk = await subtle.exportKey('jwk', privateKey);
    equal([jwk.kty, jwk.crv, jwk.d.length, jwk.key_ops, jwk.ext], ['EC', namedCurve, Math.ceil((length * 4) / 3), ['sign'], true]);
    const again = await subtle.importKey('jwk', { ...jwk, alg, use: 'sig' }, of, true, ['sign']);
    const signature = await subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, again, text('x'));
    for (const format of ['raw', 'spki', 'jwk']) {
      const data = await subtle.exportKey(format, publicKey);
      const found = await subtle.importKey(format, data, of, true, ['verify']);
      ok(await subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, found, signature, text('x')));
      if (format !== 'jwk') equal(hex(await subtle.exportKey(format, found)), hex(data));
    }
    const pkcs8 = await subtle.exportKey('pkcs8', privateKey);
    const found = await subtle.importKey('pkcs8', pkcs8, of, true, ['sign']);
    equal((await subtle.exportKey('jwk', found)).d, jwk.d);
    equal(hex(await subtle.exportKey('pkcs8', found)), hex(pkcs8));
  }
});
check('ECDSA: a compressed point is read', async () => {
  const of = { name: 'ECDSA', namedCurve: 'P-256' };
  const { x, y, hash, signature } = SIGNED['P-256'];
  const key = await subtle.importKey('raw', bytes(`03${x}`), of, true, ['verify']);
  equal(hex(await subtle.exportKey('raw', key)), `04${x}${y}`);
  ok(await subtle.verify({ name: 'ECDSA', hash }, key, bytes(signature), text('sample')));
});
check('ECDSA: what is no key is a DataError', async () => {
  const of = { name: 'ECDSA', namedCurve: 'P-256' };
  const { x, y } = SIGNED['P-256'];
  const { publicKey, privateKey } = await subtle.generateKey(of, true, ALL);
  const [spki, pkcs8] = [await subtle.exportKey('spki', publicKey), await subtle.exportKey('pkcs8', privateKey)];
  const [jwk, other] = [await subtle.exportKey('jwk', privateKey), jwkOf('P-256', SIGNED['P-256'], true)];
  const wrong = { name: 'ECDSA', namedCurve: 'P-384' };
  for (const [format, data, algorithm, usages] of [
    ['raw', bytes(`04${y}${x}`), of, ['verify']],
    ['raw', bytes(`04${x}`), of, ['verify']],
    ['spki', spki, wrong, ['verify']],
    ['spki', spki.slice(0, -1), of, ['verify']],
    ['pkcs8', pkcs8, wrong, ['sign']],
    ['pkcs8', spki, of, ['sign']],
    ['jwk', jwk, wrong, ['sign']],
    ['jwk', { ...jwk, kty: 'OKP' }, of, ['sign']],
    ['jwk', { ...jwk, d: other.d }, of, ['sign']],
    ['jwk', { ...jwk, x: jwk.x.slice(4) }, of, ['sign']],
    ['jwk', { ...jwk, use: 'enc' }, of, ['sign']],
    ['jwk', { ...jwk, alg: 'ES384' }, of, ['sign']],
    ['jwk', { ...jwk, ext: false }, of, ['sign']],
    ['jwk', { ...jwk, key_ops: ['verify'] }, of, ['sign']],
  ]) {
    await throws('DataError', () => subtle.importKey(format, data, algorithm, true, usages));
  }
});

about('crypto.subtle: Ed25519, X25519');

// RFC 8032, section 7.1: tests 1 to 3.
for (const [number, d, x, message, signature] of [
  [
    1,
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    `e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b
     d25bf5f0595bbe24655141438e7a100b`,
  ],
  [
    2,
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    `92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c
     387b2eaeb4302aeeb00d291612bb0c00`,
  ],
  [
    3,
    'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    'af82',
    `6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659
     4a7c15e9716ed28dc027beceea1ec40a`,
  ],
]) {
  check(`Ed25519: RFC 8032, test ${number}`, async () => {
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: base64url(bytes(x)), d: base64url(bytes(d)) };
    const privateKey = await subtle.importKey('jwk', jwk, 'Ed25519', false, ['sign']);
    const publicKey = await subtle.importKey('raw', bytes(x), { name: 'Ed25519' }, true, ['verify']);
    equal(hex(await subtle.sign('Ed25519', privateKey, bytes(message))), hex(bytes(signature)));
    ok(await subtle.verify('Ed25519', publicKey, bytes(signature), bytes(message)));
    const changed = bytes(signature);
    changed[5] ^= 1;
    ok(!(await subtle.verify('Ed25519', publicKey, changed, bytes(message))));
  });
}
check('Ed25519: a key of small order verifies nothing', async () => {
  // The neutral element, with which everything would be signed by (1, 0).
  const key = await subtle.importKey('raw', bytes(`01${'00'.repeat(31)}`), 'Ed25519', true, ['verify']);
  ok(!(await subtle.verify('Ed25519', key, bytes(`01${'00'.repeat(63)}`), text('x'))));
});

// RFC 8410, section 10: a public and a private key of Ed25519 in DER.
check('Ed25519: RFC 8410', async () => {
  const spki = bytes('302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1');
  const pkcs8 = bytes('302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842');
  const publicKey = await subtle.importKey('spki', spki, 'Ed25519', true, ['verify']);
  const privateKey = await subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign']);
  ok(await subtle.verify('Ed25519', publicKey, await subtle.sign('Ed25519', privateKey, text('x')), text('x')));
  equal([hex(await subtle.exportKey('spki', publicKey)), hex(await subtle.exportKey('pkcs8', privateKey))], [hex(spki), hex(pkcs8)]);
});

// RFC 7748, section 6.1: Bob's private key, Alice's public one.
check('X25519: RFC 7748', async () => {
  const jwk = {
    kty: 'OKP',
    crv: 'X25519',
    x: base64url(bytes('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f')),
    d: base64url(bytes('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb')),
  };
  const bob = await subtle.importKey('jwk', jwk, 'X25519', false, ['deriveBits']);
  const alice = bytes('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
  const how = { name: 'X25519', public: await subtle.importKey('raw', alice, 'X25519', true, []) };
  equal(hex(await subtle.deriveBits(how, bob, 256)), '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');
  const small = { name: 'X25519', public: await subtle.importKey('raw', new Uint8Array(32), 'X25519', true, []) };
  await throws('OperationError', () => subtle.deriveBits(small, bob, 256));
});
check('Ed25519 and X25519: keys are generated, written and read in all formats', async () => {
  for (const [name, oid, privateUses, publicUses] of [
    ['Ed25519', '70', ['sign'], ['verify']],
    ['X25519', '6e', ['deriveKey', 'deriveBits'], []],
  ]) {
    const pair = await subtle.generateKey(name, true, [...privateUses, ...publicUses]);
    equal([pair.privateKey.algorithm, pair.privateKey.usages, pair.publicKey.usages], [{ name }, privateUses, publicUses]);
    for (const format of ['raw', 'spki', 'jwk']) {
      const data = await subtle.exportKey(format, pair.publicKey);
      const found = await subtle.importKey(format, data, name, true, publicUses);
      equal(hex(await subtle.exportKey('raw', found)), hex(await subtle.exportKey('raw', pair.publicKey)));
      if (format === 'spki') ok(hex(data).startsWith(`302a300506032b65${oid}032100`));
    }
    for (const format of ['pkcs8', 'jwk']) {
      const data = await subtle.exportKey(format, pair.privateKey);
      const found = await subtle.importKey(format, data, name, true, privateUses);
      if (format === 'jwk') equal(data.alg, name === 'Ed25519' ? name : undefined);
      equal(hex(await subtle.exportKey('pkcs8', found)), hex(await subtle.exportKey('pkcs8', pair.privateKey)));
    }
    await throws('DataError', () => subtle.importKey('raw', new Uint8Array(31), name, true, publicUses));
  }
});
check('crypto.subtle: Ed448, X448', async () => {
  for (const [name, uses] of [['Ed448', ['sign', 'verify']], ['X448', ['deriveBits']]]) await subtle.generateKey(name, true, uses);
});
