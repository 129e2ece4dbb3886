// Keys of elliptic curves: ECDSA and ECDH on those of NIST, Ed25519 and X25519. A key's material is { d, point }: the private
// part or null, and the public one as the native part has it.

import { define, hash } from './algorithms.js';
import { error, text } from './convert.js';
import * as der from './der.js';
import * as jwks from './jwk.js';
import { allow, common, known, need, newKey } from './keys.js';
import { CURVES, hashNumber, holds, isThere, made } from './native.js';
import { copied, indexIn } from '../own.js';
import { must, unsupported } from './symmetric.js';

const invalid = (message = 'the key is not valid') => error('DataError', message);

const id = (text) => copied(Uint8Array.from(text.split(' '), (byte) => parseInt(byte, 16)));
const EC = id('2a 86 48 ce 3d 02 01');
// Of the curves: their name in DER, the length of their numbers in bytes, and which `alg` a JWK for ECDSA has.
const NIST = {
  __proto__: null,
  'P-256': { oid: id('2a 86 48 ce 3d 03 01 07'), length: 32, alg: 'ES256' },
  'P-384': { oid: id('2b 81 04 00 22'), length: 48, alg: 'ES384' },
  'P-521': { oid: id('2b 81 04 00 23'), length: 66, alg: 'ES512' },
};
const EDWARDS = { __proto__: null, Ed25519: { oid: id('2b 65 70'), length: 32 }, X25519: { oid: id('2b 65 6e'), length: 32 } };

const number = (name) => indexIn(CURVES, name);

// A public key, if it is one. At the top level one of the right form is looked at when it is used.
function pointOf(curve, bytes) {
  const isOfForm = NIST[curve] === undefined ? bytes.length === 32 : bytes[0] === 4 && bytes.length === 1 + 2 * NIST[curve].length;
  if (isOfForm && !isThere()) return bytes;
  const point = made('ec-point', number(curve), bytes);
  if (point === null) throw invalid();
  return point;
}

// The public key of a private one, and whether it is the one that is named.
function publicOf(curve, d, named = null) {
  if (named !== null && !isThere()) return named;
  const point = made('ec-public', number(curve), d);
  if (point === null || (named !== null && !der.isSame(point, named))) throw invalid();
  return point;
}

// What the formats are for both families. `family`: how keys are named and written.
function keys(name, family, privateUses, publicUses) {
  const usesOf = (type, usages) => allow(usages, type === 'private' ? privateUses : publicUses);
  const importers = {
    raw(curve, data, _, usages) {
      usesOf('public', usages);
      return { d: null, point: pointOf(curve, data) };
    },
    spki(curve, data, _, usages) {
      usesOf('public', usages);
      const { oid, parameters, key } = der.readSpki(data);
      family.check(curve, oid, parameters);
      return { d: null, point: pointOf(curve, key) };
    },
    pkcs8(curve, data, _, usages) {
      usesOf('private', usages);
      const { oid, parameters, key } = der.readPkcs8(data);
      family.check(curve, oid, parameters);
      const { d, point } = family.readPrivate(curve, key);
      return { d, point: publicOf(curve, d, point) };
    },
    jwk(curve, data, extractable, usages) {
      usesOf(data.d === undefined ? 'public' : 'private', usages);
      jwks.check(data, family.jwk(name, curve), extractable, usages);
      if (data.crv !== curve) throw invalid(`the key's crv is not ${curve}`);
      const point = pointOf(curve, family.pointOf(curve, data));
      if (data.d === undefined) return { d: null, point };
      const d = jwks.decode(data, 'd');
      if (d.length !== family.length(curve)) throw invalid();
      publicOf(curve, d, point);
      return { d, point };
    },
  };
  const exporters = {
    raw(curve, key) {
      need(key, 'public');
      return copied(key.material.point);
    },
    spki(curve, key) {
      need(key, 'public');
      return der.writeSpki(...family.algorithm(curve), key.material.point);
    },
    pkcs8(curve, key) {
      need(key, 'private');
      return der.writePkcs8(...family.algorithm(curve), family.writePrivate(key.material));
    },
    jwk(curve, key) {
      const { d, point } = key.material;
      const made = { kty: family.jwk(name, curve).kty, crv: curve, ...family.coordinates(curve, point) };
      if (d !== null) made.d = jwks.encode(d);
      if (name === 'Ed25519') made.alg = name;
      return { ...made, ...jwks.ends(key) };
    },
  };
  const algorithmOf = (curve) => (family === nist ? { name, namedCurve: curve } : { name });
  return {
    generateKey: [
      family.members,
      ({ namedCurve = name }, extractable, usages) => {
        allow(usages, [...privateUses, ...publicUses]);
        if (family.length(namedCurve) === undefined) throw error('NotSupportedError', `there is no curve ${namedCurve} here`);
        const d = must(made('ec-generate', number(namedCurve)));
        const point = publicOf(namedCurve, d);
        const algorithm = algorithmOf(namedCurve);
        return {
          publicKey: newKey('public', true, algorithm, common(usages, publicUses), { d: null, point }),
          privateKey: newKey('private', extractable, algorithm, common(usages, privateUses), { d, point }),
        };
      },
    ],
    importKey: [
      family.members,
      ({ namedCurve = name }, format, data, extractable, usages) => {
        if (importers[format] === undefined) throw unsupported(name, format);
        if (family.length(namedCurve) === undefined) throw invalid(`there is no curve ${namedCurve} here`);
        const material = importers[format](namedCurve, data, extractable, usages);
        const type = material.d === null ? 'public' : 'private';
        return newKey(type, extractable, algorithmOf(namedCurve), usages, material);
      },
    ],
    exportKey(format, key) {
      if (exporters[format] === undefined) throw unsupported(name, format);
      return exporters[format](key.algorithm.namedCurve ?? name, key);
    },
  };
}

// RFC 5480 and RFC 5915.
const nist = {
  members: { namedCurve: text },
  length: (curve) => NIST[curve]?.length,
  algorithm: (curve) => [EC, der.element(der.OID, NIST[curve].oid)],
  check(curve, oid, parameters) {
    if (!der.isSame(oid, EC) || !der.isSame(parameters.take(der.OID), NIST[curve].oid)) throw invalid();
    parameters.end();
  },
  readPrivate(curve, key) {
    const outer = new der.Reader(key);
    const info = outer.sequence();
    outer.end();
    if (info.small() !== 1) throw invalid();
    const d = info.take(der.OCTET_STRING);
    if (d.length !== NIST[curve].length) throw invalid();
    if (info.is(der.tagged(0))) {
      const named = new der.Reader(info.take(der.tagged(0)));
      if (!der.isSame(named.take(der.OID), NIST[curve].oid)) throw invalid();
      named.end();
    }
    let point = null;
    if (info.is(der.tagged(1))) {
      const named = new der.Reader(info.take(der.tagged(1)));
      point = pointOf(curve, named.bits());
      named.end();
    }
    info.end();
    return { d, point };
  },
  writePrivate: ({ d, point }) =>
    der.sequence(der.small(1), der.element(der.OCTET_STRING, d), der.element(der.tagged(1), der.bitString(point))),
  jwk: (name, curve) => (name === 'ECDSA' ? { kty: 'EC', use: 'sig', alg: NIST[curve].alg } : { kty: 'EC', use: 'enc' }),
  pointOf(curve, jwk) {
    const [x, y] = [jwks.decode(jwk, 'x'), jwks.decode(jwk, 'y')];
    const { length } = NIST[curve];
    if (x.length !== length || y.length !== length) throw invalid();
    return der.concat([4], x, y);
  },
  coordinates(curve, point) {
    const { length } = NIST[curve];
    return { x: jwks.encode(point.subarray(1, 1 + length)), y: jwks.encode(point.subarray(1 + length)) };
  },
};

// RFC 8410 and RFC 8037.
const edwards = {
  members: {},
  length: (curve) => EDWARDS[curve]?.length,
  algorithm: (curve) => [EDWARDS[curve].oid, []],
  check(curve, oid, parameters) {
    if (!der.isSame(oid, EDWARDS[curve].oid)) throw invalid();
    parameters.end();
  },
  readPrivate(curve, key) {
    const outer = new der.Reader(key);
    const d = outer.take(der.OCTET_STRING);
    outer.end();
    if (d.length !== EDWARDS[curve].length) throw invalid();
    return { d, point: null };
  },
  writePrivate: ({ d }) => der.element(der.OCTET_STRING, d),
  jwk: (name) => (name === 'Ed25519' ? { kty: 'OKP', use: 'sig', alg: ['Ed25519', 'EdDSA'] } : { kty: 'OKP', use: 'enc' }),
  pointOf: (curve, jwk) => jwks.decode(jwk, 'x'),
  coordinates: (curve, point) => ({ x: jwks.encode(point) }),
};

function sign(curve, hash, key, data) {
  need(key, 'private');
  return must(made('ec-sign', number(curve), hash, key.material.d, data));
}

function verify(curve, hash, key, signature, data) {
  need(key, 'public');
  return holds('ec-verify', number(curve), hash, key.material.point, signature, data);
}

// Section "deriveBits" of ECDH and X25519: a null length is all of it.
const deriving = [
  { public: (value) => known(value, 'the public key') },
  ({ public: other }, key, length) => {
    need(key, 'private');
    need(other, 'public');
    const { name, namedCurve = name } = key.algorithm;
    if (other.algorithm.name !== name || (other.algorithm.namedCurve ?? name) !== namedCurve) {
      throw error('InvalidAccessError', 'the keys are of different algorithms or curves');
    }
    const secret = must(made('ec-derive', number(namedCurve), key.material.d, other.material.point));
    if (length === null) return secret;
    if (length > secret.length * 8) throw error('OperationError', `the secret has ${secret.length * 8} bits`);
    const taken = copied(secret.subarray(0, (length + 7) >>> 3));
    if (length % 8 !== 0) taken[taken.length - 1] &= 0xff << (8 - (length % 8));
    return taken;
  },
];

define('ECDSA', {
  sign: [{ hash }, ({ hash }, key, data) => sign(key.algorithm.namedCurve, hashNumber(hash), key, data)],
  verify: [
    { hash },
    ({ hash }, key, signature, data) => verify(key.algorithm.namedCurve, hashNumber(hash), key, signature, data),
  ],
  ...keys('ECDSA', nist, ['sign'], ['verify']),
});
define('Ed25519', {
  sign: (_, key, data) => sign('Ed25519', 0, key, data),
  verify: (_, key, signature, data) => verify('Ed25519', 0, key, signature, data),
  ...keys('Ed25519', edwards, ['sign'], ['verify']),
});
define('ECDH', { deriveBits: deriving, ...keys('ECDH', nist, ['deriveKey', 'deriveBits'], []) });
define('X25519', { deriveBits: deriving, ...keys('X25519', edwards, ['deriveKey', 'deriveBits'], []) });
