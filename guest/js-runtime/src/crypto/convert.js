// What arguments become (Web IDL): bytes are copied, numbers have to be in range, members of dictionaries may be required.

export const error = (name, message) => new DOMException(message, name);

// Whether it is an ArrayBuffer or a view of one.
export function isBytes(value) {
  return ArrayBuffer.isView(value) || isBuffer(value);
}

const { get: byteLength } = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength');

function isBuffer(value) {
  try {
    byteLength.call(value);
    return true;
  } catch {
    return false;
  }
}

// A copy of the bytes.
export function bytes(value, what = 'it') {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  if (isBuffer(value)) return new Uint8Array(value).slice();
  throw new TypeError(`${what} is no ArrayBuffer and no view of one`);
}

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
  const made = {};
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
  if (!values.includes(given)) throw new TypeError(`${given} is no ${what}`);
  return given;
}

export function sequenceOf(value, convert, what) {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null || typeof value[Symbol.iterator] !== 'function') {
    throw new TypeError(`${what} has to be a list`);
  }
  return Array.from(value, convert);
}
