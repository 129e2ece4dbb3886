// What arguments become (Web IDL): bytes are copied, numbers have to be in range, members of dictionaries may be required.

import { ByteArray, contains, copied, reader, zeroed } from '../own.js';

export const error = (name, message) => new DOMException(message, name);

const { isView } = ArrayBuffer;
const typed = Object.getPrototypeOf(ByteArray.prototype);
const typeOf = reader(typed, Symbol.toStringTag);
const partsOf = (target) => ['buffer', 'byteOffset', 'byteLength'].map((name) => reader(target, name));
const [bufferOfTyped, offsetOfTyped, lengthOfTyped] = partsOf(typed);
const [bufferOfView, offsetOfView, lengthOfView] = partsOf(DataView.prototype);
const lengthOf = reader(ArrayBuffer.prototype, 'byteLength');

// (The accessor throws for all else, a SharedArrayBuffer too.)
function isBuffer(value) {
  try {
    lengthOf(value);
    return true;
  } catch {
    return false;
  }
}

// Whether it is an ArrayBuffer or a view of one.
export function isBytes(value) {
  if (!isView(value)) return isBuffer(value);
  return isBuffer(typeOf(value) === undefined ? bufferOfView(value) : bufferOfTyped(value));
}

// Fails where it is no bytes: before all else, and before they are copied.
export function needBytes(value, what) {
  if (!isBytes(value)) throw new TypeError(`${what} is no ArrayBuffer and no view of one`);
}

// A copy of the bytes. Of a buffer that was given away there are none.
export function bytes(value, what = 'it') {
  needBytes(value, what);
  if (!isView(value)) return lengthOf(value) === 0 ? zeroed(0) : copied(new ByteArray(value));
  if (typeOf(value) !== undefined) return part(bufferOfTyped(value), offsetOfTyped(value), lengthOfTyped(value));
  const buffer = bufferOfView(value);
  // The accessors of a DataView throw then.
  return lengthOf(buffer) === 0 ? zeroed(0) : part(buffer, offsetOfView(value), lengthOfView(value));
}

const part = (buffer, offset, length) => (length === 0 ? zeroed(0) : copied(new ByteArray(buffer, offset, length)));

const whole = (max) => (value, what) => {
  const number = Number(value);
  const integer = Math.trunc(number);
  if (!Number.isFinite(number) || integer < 0 || integer > max) throw new TypeError(`${what} is no whole number up to ${max}`);
  return integer;
};
export const octet = whole(0xff);
export const short = whole(0xffff);
export const long = whole(0xffffffff);

export const text = (value) => `${value}`;

// Marks a member that may be left out.
export const optional = (convert) => ({ convert, isOptional: true });

// The members of a dictionary, in the order of their names.
export function dictionary(value, members, what) {
  const made = { __proto__: null };
  for (const name of Object.keys(members).sort()) {
    const { convert = members[name], isOptional = false } = members[name];
    const given = value[name];
    if (given !== undefined) made[name] = convert(given, `${what}.${name}`);
    else if (!isOptional) throw new TypeError(`${what} needs the member ${name}`);
  }
  return made;
}

export function oneOf(values, value, what) {
  const given = `${value}`;
  if (!contains(values, given)) throw new TypeError(`${given} is no ${what}`);
  return given;
}

export function sequenceOf(value, convert, what) {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null || typeof value[Symbol.iterator] !== 'function') {
    throw new TypeError(`${what} has to be a list`);
  }
  return Array.from(value, convert);
}
