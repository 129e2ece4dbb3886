// console in front of the engine's, which shows an error without its stack and cause, and a request or a stream with all that the
// runtime keeps in it.

import { describe, isError, placesOf } from './errors.js';
import { isActive } from './loop.js';
import { Request } from './request.js';
import { Response } from './response.js';
import { define, showMembers } from './shape.js';

function words(value) {
  if (isError(value)) return describe(value);
  try {
    if (value instanceof Request) return `Request { method: "${value.method}", url: "${value.url}" }`;
    if (value instanceof Response) return `Response { status: ${value.status}, url: "${value.url}" }`;
  } catch {
    // It is over, and nobody had asked the host for these parts.
    return `${value}`;
  }
  return value instanceof ReadableStream || value instanceof WritableStream ? `${value}` : value;
}

const isObject = (value) => typeof value === 'object' && value !== null;

// What stands before and behind a message for the host to know its level (host/sandbox/src/stdio.rs). No terminal shows these
// characters, and the engine puts a space between. A word that nobody knows who writes a text that is printed is part of it, so that
// none ends the message: the engine prints what is in an object as it is.
const MARKS = { debug: '\x01', warn: '\x03', error: '\x04' };
const END = '\x17';
let word = '';
function wordOf() {
  // What is made at the top level is the same in all instances.
  if (word === '' && isActive()) word = crypto.randomUUID().slice(0, 13);
  return word;
}
const unmarked = (value) => (typeof value === 'string' ? value.replace(/[\x01-\x04\x17]/g, '') : value);

for (const name of ['debug', 'error', 'info', 'log', 'warn']) {
  const native = console[name];
  const mark = MARKS[name];
  define(console, name, (...args) => {
    const given = args.some(isObject) ? args.map(words) : args;
    if (mark === undefined) native.apply(console, given);
    else native.call(console, `${mark}${END}${wordOf()}`, ...(given.length === 0 ? [''] : given.map(unmarked)), `${word}${END}`);
  });
}

// The engine's prints nothing.
define(console, 'assert', (...[holds, ...args]) => {
  if (!holds) console.error('Assertion failed', ...args);
});

// The engine's knows only the bundle's places.
define(console, 'trace', (...args) => console.log('Trace:', ...args, placesOf(new Error()).replace(/\n.*/, '')));

showMembers(console);
Object.defineProperty(console, Symbol.toStringTag, { value: 'console', configurable: true });
