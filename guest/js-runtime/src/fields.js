// Header fields on their way out: a flat list of lower-case names and values. A list is made and checked at once, since
// what it was made of may change; `Headers` is made of it only for those who look.

import { define } from './shape.js';
import { trimmed } from './spaces.js';

// Names seen before, with their lower-case forms, and values, as they are sent: looking up costs a third of checking.
// Bounded, since an application may make up new ones for ever.
const KNOWN_MAX = 512;
const KNOWN_LENGTH_MAX = 128;
const names = new Map();
const values = new Map();

function remember(known, given, form) {
  if (known.size === KNOWN_MAX) known.clear();
  known.set(given, form);
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// All but these may stand in a value (Fetch, "header value"). Of the control characters that are left, the host takes only the
// tab when it is to send them.
const NOT_VALUE = /[\0\r\n]|[^\0-\xff]/;

function nameOf(given) {
  const found = names.get(given);
  if (found !== undefined) return found;
  const name = String(given);
  if (!TOKEN.test(name)) throw new TypeError(`"${name}" is no name of a header`);
  const lower = name.toLowerCase();
  if (name.length <= KNOWN_LENGTH_MAX) remember(names, name, lower);
  return lower;
}

function valueOf(given) {
  const found = values.get(given);
  if (found !== undefined) return found;
  const text = String(given);
  const value = trimmed(text);
  if (NOT_VALUE.test(value)) throw new TypeError(`${JSON.stringify(value)} is no value of a header`);
  if (text.length <= KNOWN_LENGTH_MAX) remember(values, text, value);
  return value;
}

// A list of what may be given as headers.
export function listOf(given) {
  const list = [];
  if (given === undefined || given === null) return list;
  if (given instanceof Headers) return listOfHeaders(given);
  if (typeof given !== 'object') throw new TypeError('headers are an object');
  if (typeof given[Symbol.iterator] === 'function') {
    for (const pair of given) {
      const [name, value, ...more] = pair;
      if (value === undefined || more.length > 0) throw new TypeError('a header is a pair of name and value');
      list.push(nameOf(name), valueOf(value));
    }
    return list;
  }
  // Without an iterator, which costs as much as the rest.
  const keys = Object.keys(given);
  for (let index = 0; index < keys.length; index++) list.push(nameOf(keys[index]), valueOf(given[keys[index]]));
  return list;
}

export function listOfHeaders(headers) {
  const list = [];
  let hasCookies = false;
  headers.forEach((value, name) => {
    if (name === 'set-cookie') hasCookies = true;
    else list.push(name, value);
  });
  if (hasCookies) for (const cookie of headers.getSetCookie()) list.push('set-cookie', cookie);
  return list;
}

export function headersOf(list) {
  const headers = new Headers();
  for (let index = 0; index < list.length; index += 2) {
    const name = list[index];
    const value = list[index + 1];
    // Of one `cookie` there may be several parts (RFC 9113, section 8.2.3).
    if (name === 'cookie' && headers.has(name)) headers.set(name, `${headers.get(name)}; ${value}`);
    else headers.append(name, value);
  }
  return headers;
}

// Headers that nobody may change (Fetch, the guard "immutable"), of a response that came.
const refuse = () => {
  throw new TypeError('these headers are immutable: make a new Response, as in `new Response(response.body, response)`');
};
const immutable = Object.create(Headers.prototype);
for (const name of ['append', 'delete', 'set']) define(immutable, name, refuse);
export const immutableHeadersOf = (list) => Object.setPrototypeOf(headersOf(list), immutable);

export function has(list, name) {
  for (let index = 0; index < list.length; index += 2) if (list[index] === name) return true;
  return false;
}

// The list without the fields of a Set of names.
export const without = (list, gone) => list.filter((_, index) => !gone.has(list[index & ~1]));
