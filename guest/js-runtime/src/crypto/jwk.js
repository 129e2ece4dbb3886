// JSON Web Keys (RFC 7517): their members, and what all kinds of keys check of them.

import { error } from './convert.js';
import { USAGES } from './keys.js';

const invalid = (message) => error('DataError', message);

const isText = (value) => typeof value === 'string';
const MEMBERS = ['kty', 'use', 'alg', 'crv', 'x', 'y', 'd', 'n', 'e', 'p', 'q', 'dp', 'dq', 'qi', 'k'];

// The dictionary JsonWebKey.
export function jwkOf(value) {
  const made = {};
  for (const name of MEMBERS) if (value[name] !== undefined) made[name] = `${value[name]}`;
  if (value.ext !== undefined) made.ext = Boolean(value.ext);
  if (value.key_ops !== undefined) made.key_ops = Array.from(value.key_ops, (one) => `${one}`);
  if (value.oth !== undefined) made.oth = Array.from(value.oth);
  return made;
}

export function encode(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

// The bytes of a member, which has to be there.
export function decode(jwk, name) {
  const text = jwk[name];
  if (!isText(text) || !/^[\w-]*$/.test(text) || text.length % 4 === 1) throw invalid(`the key's ${name} is missing, or no base64url`);
  return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
}

// What is the same for all kinds: `use` is what the key's must be if it has one, `alg` likewise.
export function check(jwk, { kty, use, alg }, extractable, usages) {
  if (jwk.kty !== kty) throw invalid(`the key's kty is not ${kty}`);
  if (usages.length > 0 && jwk.use !== undefined && jwk.use !== use) throw invalid(`the key's use is not ${use}`);
  const ops = jwk.key_ops;
  if (ops !== undefined) {
    const known = ops.filter((op) => USAGES.includes(op));
    if (new Set(known).size < known.length) throw invalid("the key's key_ops names a use twice");
    if (!usages.every((usage) => ops.includes(usage))) throw invalid("the key's key_ops lacks a use that is asked for");
  }
  if (jwk.ext === false && extractable) throw invalid('the key must not be extractable');
  if (alg !== undefined && jwk.alg !== undefined && ![alg].flat().includes(jwk.alg)) throw invalid(`the key's alg is not ${alg}`);
}

// What all exported keys have.
export const ends = (key) => ({ key_ops: [...key.usages], ext: key.extractable });
