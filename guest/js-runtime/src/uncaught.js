// Errors that nobody catches: of timers, listeners, microtasks and `reportError` (HTML, "report an exception"). The global object
// has the event `error` for them, and what no listener cancels is told of on standard error.

import { isError } from './errors.js';
import { reportWith, tell } from './loop.js';
import { attributes, INNER, provide, shape } from './shape.js';

class ErrorEvent extends Event {
  constructor(type, options = undefined) {
    super(type, options ?? {});
    const { message = '', filename = '', lineno = 0, colno = 0, error } = options ?? {};
    this[INNER] = { message: `${message}`, filename: `${filename}`, lineno: lineno >>> 0, colno: colno >>> 0, error };
  }
}
attributes(ErrorEvent, ['message', 'filename', 'lineno', 'colno', 'error']);
shape(ErrorEvent, 'ErrorEvent', 1);
provide('ErrorEvent', ErrorEvent);

// Of what is no error, the place is the one that reported it.
function eventOf(error) {
  const { stack } = isError(error) ? error : new Error();
  // The first that is not of the runtime.
  const [, filename, lineno, colno = 1] = /(?:^|@)(?!wasmhost:)([^@\n]+?):(\d+)(?::(\d+))?$/m.exec(stack) ?? [];
  const message = isError(error) ? `${error.name}: ${error.message}` : `Uncaught ${typeof error === 'object' ? 'object' : String(error)}`;
  return new ErrorEvent('error', { cancelable: true, message, filename, lineno, colno, error });
}

let isReporting = false;

reportWith((error) => {
  // A listener's own error would come here for ever.
  if (isReporting) return tell(error);
  isReporting = true;
  try {
    if (!globalThis.dispatchEvent(eventOf(error))) return undefined;
  } finally {
    isReporting = false;
  }
  return tell(error);
});

let handler = null;
function listener(event) {
  const isWhole = event instanceof ErrorEvent;
  const { message, filename, lineno, colno, error } = event;
  const given = isWhole ? handler.call(globalThis, message, filename, lineno, colno, error) : handler.call(globalThis, event);
  if (given === isWhole) event.preventDefault();
}

Object.defineProperty(globalThis, 'onerror', {
  configurable: true,
  enumerable: true,
  get: () => handler,
  set(given) {
    const isNew = handler === null;
    handler = typeof given === 'function' ? given : null;
    if (handler === null) globalThis.removeEventListener('error', listener);
    else if (isNew) globalThis.addEventListener('error', listener);
  },
});
