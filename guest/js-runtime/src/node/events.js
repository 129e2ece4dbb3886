// node:events of @jspm/core, and what it has not.

import EventEmitter from 'wasmhost:jspm/events';

export const { defaultMaxListeners, once } = EventEmitter;

export const listenerCount = (emitter, type) => emitter.listenerCount(type);
export const getEventListeners = (emitter, type) => emitter.listeners(type);

export function setMaxListeners(count, ...emitters) {
  for (const emitter of emitters) emitter.setMaxListeners?.(count);
}

export function addAbortListener(signal, listener) {
  if (signal.aborted) queueMicrotask(() => listener());
  else signal.addEventListener('abort', listener, { once: true });
  const stop = () => signal.removeEventListener('abort', listener);
  return Symbol.dispose === undefined ? { dispose: stop } : { [Symbol.dispose]: stop };
}

// Iterates over what the listeners of an event get. (That of @jspm/core 2.1.0 calls a function that it lacks.)
export function on(emitter, type, { signal } = {}) {
  const heard = [];
  let wake = () => {};
  let failure;
  const hear = (...args) => {
    heard.push(args);
    wake();
  };
  const fail = (error) => {
    failure ??= { error };
    wake();
  };
  const abort = () => fail(signal.reason);
  const stop = () => {
    emitter.off(type, hear);
    emitter.off('error', fail);
    signal?.removeEventListener('abort', abort);
  };
  signal?.throwIfAborted();
  emitter.on(type, hear);
  if (type !== 'error') emitter.on('error', fail);
  signal?.addEventListener('abort', abort);
  return (async function* () {
    try {
      for (;;) {
        while (heard.length > 0) yield heard.shift();
        if (failure !== undefined) throw failure.error;
        await new Promise((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      stop();
    }
  })();
}

Object.assign(EventEmitter, { addAbortListener, getEventListeners, on, setMaxListeners });

export { EventEmitter };
export default EventEmitter;
