// What the engine lacks of the platform, or does in another way than the standards say, where a few lines mend it.

import { report } from './loop.js';
import { define, provide, shape } from './shape.js';

// HTML, section "Base64 utility methods": the error's name.
for (const name of ['atob', 'btoa']) {
  const native = globalThis[name];
  provide(name, (text) => {
    try {
      return native(text);
    } catch {
      throw new DOMException(`${name} cannot take this text`, 'InvalidCharacterError');
    }
  });
}

// The engine's gives the function an argument, and loses what it throws.
const { queueMicrotask: native } = globalThis;
function queueMicrotask(run) {
  if (typeof run !== 'function') throw new TypeError('queueMicrotask takes a function');
  native(() => {
    try {
      run();
    } catch (error) {
      report(error);
    }
  });
}
provide('queueMicrotask', queueMicrotask);

if (globalThis.navigator === undefined) define(globalThis, 'navigator', Object.freeze({ userAgent: 'wasmhost' }));

// Class strings and enumerable members of the engine's own interfaces.
for (const name of ['FormData', 'Headers', 'TextDecoder', 'TextEncoder', 'URLSearchParams']) shape(globalThis[name], name);

// What `forEach` needs, and what the iterators are.
for (const [name, one] of Object.entries({ FormData: new FormData(), Headers: new Headers(), URLSearchParams: new URLSearchParams() })) {
  Object.defineProperty(globalThis[name].prototype.forEach, 'length', { value: 1, configurable: true });
  const iterators = Object.getPrototypeOf(one.entries());
  Object.defineProperty(iterators, Symbol.toStringTag, { value: `${name} Iterator`, configurable: true });
}

// The engine takes a File under another name for one of now.
for (const name of ['append', 'set']) {
  const native = FormData.prototype[name];
  Object.defineProperty(FormData.prototype, name, {
    ...Object.getOwnPropertyDescriptor(FormData.prototype, name),
    value(key, value, ...filename) {
      const { type, lastModified } = value instanceof File && filename.length > 0 ? value : {};
      if (lastModified === undefined) return native.apply(this, arguments);
      return native.call(this, key, new File([value], filename[0], { type, lastModified }));
    },
  });
  Object.defineProperty(FormData.prototype[name], 'name', { value: name });
}

const { isError } = Error;
if (isError !== undefined) define(Error, 'isError', { isError: (value) => isError(value) || value instanceof DOMException }.isError);
