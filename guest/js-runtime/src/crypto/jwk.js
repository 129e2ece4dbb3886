// JSON Web Keys (RFC 7517): their members, and what all kinds of keys check of them.

import { error, sequenceOf, text } from './convert.js';
import { USAGES } from './keys.js';
import { contains, uncurried, zeroed } from '../own.js';

const invalid = (message) => error('DataError', message);

const MEMBERS = ['kty', 'use', 'alg', 'crv', 'x', 'y', 'd', 'n', 'e', 'p', 'q', 'dp', 'dq', 'qi', 'k'];

// The dictionary JsonWebKey.
export function jwkOf(value) {
  const made = { __proto__: null };
  for (const name of MEMBERS) if (value[name] !== undefined) made[name] = `${value[name]}`;
  if (value.ext !== undefined) made.ext = !!value.ext;
  if (value.key_ops !== undefined) made.key_ops = sequenceOf(value.key_ops, text, "the key's key_ops");
  if (value.oth !== undefined) made.oth = sequenceOf(value.oth, (one) => one, "the key's oth");
  return made;
}

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const codeAt = uncurried(String.prototype.charCodeAt);
// What a digit stands for, by its character's code; 255 where it is none.
const VALUES = zeroed(128);
for (let code = 0; code < VALUES.length; code++) VALUES[code] = 255;
for (let value = 0; value < DIGITS.length; value++) VALUES[codeAt(DIGITS, value)] = value;

// In base64url.
export function encode(bytes) {
  let made = '';
  let bits = 0;
  let count = 0;
  for (let index = 0; index < bytes.length; index++) {
    bits = ((bits << 8) | bytes[index]) & 0xffff;
    for (count += 8; count >= 6; ) {
      count -= 6;
      made += DIGITS[(bits >> count) & 63];
    }
  }
  return count === 0 ? made : made + DIGITS[(bits << (6 - count)) & 63];
}

// The bytes of a member, which has to be there.
export function decode(jwk, name) {
  const digits = jwk[name];
  const refused = () => invalid(`the key's ${name} is missing, or no base64url`);
  if (typeof digits !== 'string' || digits.length % 4 === 1) throw refused();
  const made = zeroed((digits.length * 3) >> 2);
  let bits = 0;
  let count = 0;
  let at = 0;
  for (let index = 0; index < digits.length; index++) {
    const value = VALUES[codeAt(digits, index)] ?? 255;
    if (value === 255) throw refused();
    bits = ((bits << 6) | value) & 0xffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      made[at++] = (bits >> count) & 0xff;
    }
  }
  return made;
}

// What is the same for all kinds: `use` is what the key's must be if it has one, `alg` likewise.
export function check(jwk, { kty, use, alg }, extractable, usages) {
  if (jwk.kty !== kty) throw invalid(`the key's kty is not ${kty}`);
  if (usages.length > 0 && jwk.use !== undefined && jwk.use !== use) throw invalid(`the key's use is not ${use}`);
  const ops = jwk.key_ops;
  if (ops !== undefined) {
    const known = ops.filter((op) => contains(USAGES, op));
    if (new Set(known).size < known.length) throw invalid("the key's key_ops names a use twice");
    if (usages.some((usage) => !contains(ops, usage))) throw invalid("the key's key_ops lacks a use that is asked for");
  }
  if (jwk.ext === false && extractable) throw invalid('the key must not be extractable');
  if (alg !== undefined && jwk.alg !== undefined && ![alg].flat().includes(jwk.alg)) throw invalid(`the key's alg is not ${alg}`);
}

// What all exported keys have.
export const ends = (key) => ({ key_ops: [...key.usages], ext: key.extractable });
