// node:events of @jspm/core, and what it has not.

import EventEmitter from 'wasmhost:jspm/events';

export const { defaultMaxListeners, on, once } = EventEmitter;

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

for (const [name, value] of Object.entries({ addAbortListener, getEventListeners, setMaxListeners })) EventEmitter[name] ??= value;

export { EventEmitter };
export default EventEmitter;
