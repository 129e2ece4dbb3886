// Errors in words: with the place in the application's own files, and with the cause.

import { BUNDLE, reader } from './places.mjs';

// `build.mjs` writes the table in the place of this text.
const TABLE = 'wasmhost:places';
// So many causes of causes are told; an error may be its own.
const CAUSES_MAX = 8;

let read;

// A stack as people read it: without the engine's and the runtime's own way to the handler.
function readable(stack) {
  if (!stack.includes(BUNDLE)) return stack;
  try {
    read ??= reader(TABLE);
    return read(stack)
      .replace(/^.*initializer\.js.*\n?/gm, '')
      .replace(/(\n.*@wasmhost:.*)+\s*$/, '');
  } catch {
    return stack;
  }
}

// What applications read is the same.
const native = Object.getOwnPropertyDescriptor(Error.prototype, 'stack');
if (native?.get !== undefined) {
  Object.defineProperty(Error.prototype, 'stack', {
    ...native,
    get() {
      const stack = native.get.call(this);
      return typeof stack === 'string' ? readable(stack) : stack;
    },
  });
}

// The stack as the engine has it.
export const stackOf = (error) => String(native?.get?.call(error) ?? '');

export const isError = (value) => value instanceof Error || value instanceof DOMException;

// What was thrown, with where it comes from, and what caused it.
export function describe(error, causes = 0) {
  try {
    if (typeof error !== 'object' || error === null || !('message' in error)) return `error: ${String(error)}`;
    const stack = readable(String(error.stack ?? '')).trim();
    const places = stack === '' ? '' : `\n${stack.replace(/^/gm, '    at ')}`;
    const cause = error.cause === undefined || causes === CAUSES_MAX ? '' : `\ncaused by: ${describe(error.cause, causes + 1)}`;
    return `${error.name}: ${error.message}${places}${cause}`;
  } catch {
    return 'error: what was thrown cannot be shown';
  }
}
