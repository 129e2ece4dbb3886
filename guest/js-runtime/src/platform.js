// What the engine lacks of the platform, or does in another way than the standards say, where a few lines mend it.

import { tell } from './loop.js';
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
      tell(error);
    }
  });
}
provide('queueMicrotask', queueMicrotask);

if (globalThis.navigator === undefined) define(globalThis, 'navigator', Object.freeze({ userAgent: 'wasmhost' }));

// Class strings and enumerable members of the engine's own interfaces.
for (const name of ['FormData', 'Headers', 'TextDecoder', 'TextEncoder', 'URLSearchParams']) {
  shape(globalThis[name], name, globalThis[name].length);
}
