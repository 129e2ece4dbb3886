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

const isThrown = (value) => typeof value === 'object' && value !== null && 'message' in value;

// The same in parts: names and messages, and the places of the stack.
export function toldOf(error) {
  const whats = [];
  const frames = [];
  try {
    for (let one = error; one !== undefined && whats.length <= CAUSES_MAX; one = isThrown(one) ? one.cause : undefined) {
      whats.push(isThrown(one) ? `${one.name}: ${one.message}` : `error: ${String(one)}`);
    }
    const stack = isThrown(error) ? readable(String(error.stack ?? '')) : '';
    for (const [, name, file, line, column = 0] of stack.matchAll(/^(.*?)@(.+?):(\d+)(?::(\d+))?$/gm)) {
      frames.push({ function: name || '(anonymous)', file, line: Number(line), column: Number(column) });
    }
  } catch {
    whats.push('error: what was thrown cannot be shown');
  }
  return { what: whats.join('\ncaused by: '), frames };
}

// The places of its stack, each in a line behind a line's end.
export function placesOf(error) {
  const stack = readable(String(error.stack ?? '')).trim();
  return stack === '' ? '' : `\n${stack.replace(/^/gm, '    at ')}`;
}

// What was thrown, with where it comes from, and what caused it.
export function describe(error, causes = 0) {
  try {
    if (!isThrown(error)) return `error: ${String(error)}`;
    const cause = error.cause === undefined || causes === CAUSES_MAX ? '' : `\ncaused by: ${describe(error.cause, causes + 1)}`;
    return `${error.name}: ${error.message}${placesOf(error)}${cause}`;
  } catch {
    return 'error: what was thrown cannot be shown';
  }
}
