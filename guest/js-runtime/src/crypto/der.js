// DER (X.690), as far as keys are written in it.

import { setBytes, zeroed } from '../own.js';

export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTET_STRING = 0x04;
export const NULL = 0x05;
export const OID = 0x06;
export const SEQUENCE = 0x30;
// Of a context, constructed.
export const tagged = (number) => 0xa0 | number;

const malformed = () => new DOMException('the key is not well-formed', 'DataError');

// Reads elements one after another.
export class Reader {
  // Declared, so that assigning calls no accessor of another.
  bytes;
  at = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  get isAtEnd() {
    return this.at === this.bytes.length;
  }

  // Whether the next element has this tag.
  is(tag) {
    return this.bytes[this.at] === tag;
  }

  // The content of the next element, which has to have this tag.
  take(tag) {
    const { bytes } = this;
    if (!this.is(tag) || this.at + 2 > bytes.length) throw malformed();
    let length = bytes[this.at + 1];
    let from = this.at + 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 4 || from + count > bytes.length) throw malformed();
      length = 0;
      for (let index = 0; index < count; index++) length = length * 256 + bytes[from + index];
      // In as few bytes as it can be.
      if (length < 0x80 || bytes[from] === 0) throw malformed();
      from += count;
    }
    if (from + length > bytes.length) throw malformed();
    this.at = from + length;
    return bytes.subarray(from, this.at);
  }

  sequence() {
    return new Reader(this.take(SEQUENCE));
  }

  // Passes over an element, whatever its tag.
  skip() {
    if (this.isAtEnd) throw malformed();
    this.take(this.bytes[this.at]);
  }

  // A number that is not negative, without zeros in front.
  unsigned() {
    const content = this.take(INTEGER);
    if (content.length === 0 || content[0] >= 0x80) throw malformed();
    return trimmed(content);
  }

  small() {
    const content = this.unsigned();
    if (content.length > 1) throw malformed();
    return content[0];
  }

  // The bytes of a string of whole bytes.
  bits() {
    const content = this.take(BIT_STRING);
    if (content.length === 0 || content[0] !== 0) throw malformed();
    return content.subarray(1);
  }

  // Nothing comes after this.
  end() {
    if (!this.isAtEnd) throw malformed();
  }
}

// A number in big endian without zeros in front; zero is one byte.
export function trimmed(bytes) {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  return bytes.subarray(from);
}

function join(parts) {
  let length = 0;
  for (let index = 0; index < parts.length; index++) length += parts[index].length;
  const whole = zeroed(length);
  let at = 0;
  for (let index = 0; index < parts.length; index++) {
    setBytes(whole, parts[index], at);
    at += parts[index].length;
  }
  return whole;
}
export const concat = (...parts) => join(parts);

function headOf(tag, length) {
  if (length < 0x80) return [tag, length];
  if (length < 0x100) return [tag, 0x81, length];
  if (length < 0x10000) return [tag, 0x82, length >> 8, length & 0xff];
  return [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
}

function elementOf(tag, parts) {
  const content = join(parts);
  return concat(headOf(tag, content.length), content);
}
export const element = (tag, ...parts) => elementOf(tag, parts);
export const sequence = (...parts) => elementOf(SEQUENCE, parts);
export const bitString = (content) => element(BIT_STRING, [0], content);
export const integer = (bytes) => {
  const number = trimmed(bytes);
  return element(INTEGER, number[0] >= 0x80 || number.length === 0 ? [0] : [], number);
};

// A number below 128.
export const small = (number) => element(INTEGER, [number]);

export function isSame(one, other) {
  if (one.length !== other.length) return false;
  for (let index = 0; index < one.length; index++) if (one[index] !== other[index]) return false;
  return true;
}

// SubjectPublicKeyInfo (RFC 5280): { oid, parameters, key }; the parameters are a Reader.
export function readSpki(bytes) {
  const outer = new Reader(bytes);
  const info = outer.sequence();
  outer.end();
  const parameters = info.sequence();
  const oid = parameters.take(OID);
  const key = info.bits();
  info.end();
  return { oid, parameters, key };
}

export const writeSpki = (oid, parameters, key) => sequence(sequence(element(OID, oid), parameters), bitString(key));

// PrivateKeyInfo (RFC 5208), and its later form with a public key (RFC 5958), which is passed over.
export function readPkcs8(bytes) {
  const outer = new Reader(bytes);
  const info = outer.sequence();
  outer.end();
  if (info.small() > 1) throw malformed();
  const parameters = info.sequence();
  const oid = parameters.take(OID);
  const key = info.take(OCTET_STRING);
  if (info.is(tagged(0))) info.skip();
  if (info.is(0x81)) info.skip();
  info.end();
  return { oid, parameters, key };
}

export const writePkcs8 = (oid, parameters, key) =>
  sequence(small(0), sequence(element(OID, oid), parameters), element(OCTET_STRING, key));
