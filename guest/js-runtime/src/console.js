// console in front of the engine's, which shows an error without its stack and cause, and a request or a stream with all that the
// runtime keeps in it.

import { describe, isError } from './errors.js';
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

for (const name of ['debug', 'error', 'info', 'log', 'warn']) {
  const native = console[name];
  define(console, name, (...args) => native.apply(console, args.some(isObject) ? args.map(words) : args));
}

// The engine's prints nothing.
define(console, 'assert', (...[holds, ...args]) => {
  if (!holds) console.error('Assertion failed', ...args);
});

showMembers(console);
Object.defineProperty(console, Symbol.toStringTag, { value: 'console', configurable: true });
