// Listeners of events (DOM, sections 2.6 to 2.10), in front of the engine's EventTarget. The engine's knows no AbortSignal, goes on
// with listeners that were removed meanwhile, stops at one that throws, and calls all with the global object as `this`. So it gets
// one listener for each type, which calls ours.

import { AbortSignal, offAbort, onAbort } from './abort.js';
import { report } from './loop.js';
import { shape, showMembers } from './shape.js';

// Of each target, by type: { list, remove }, the list of { callback, capture, once, passive, removed, signal, step } and what removes the
// engine's listener. A type without listeners has none.
const all = new WeakMap();
// Events whose propagation was stopped at once.
const stopped = new WeakSet();
// The event that a passive listener looks at.
let passiveEvent = null;

function dispatch(target, event) {
  for (const listener of [...(all.get(target)?.get(event.type)?.list ?? [])]) {
    if (listener.removed) continue;
    if (listener.once) drop(target, event.type, listener.callback, listener.capture);
    passiveEvent = listener.passive ? event : null;
    try {
      if (typeof listener.callback === 'function') listener.callback.call(target, event);
      else listener.callback.handleEvent(event);
    } catch (error) {
      report(error);
    }
    passiveEvent = null;
    if (stopped.delete(event)) break;
  }
}

function drop(target, type, callback, capture) {
  const types = all.get(target);
  const { list = [], remove } = types?.get(type) ?? {};
  const index = list.findIndex((one) => one.callback === callback && one.capture === capture);
  if (index < 0) return;
  const [listener] = list.splice(index, 1);
  listener.removed = true;
  if (listener.signal !== undefined) offAbort(listener.signal, listener.step);
  if (list.length > 0) return;
  types.delete(type);
  remove();
}

const captures = (options) => Boolean(typeof options === 'object' && options !== null ? options.capture : options);

function add(nativeAdd, nativeRemove, target, type, callback, options) {
  const capture = captures(options);
  const { once = false, passive = false, signal } = typeof options === 'object' && options !== null ? options : {};
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new TypeError('the option signal is no AbortSignal');
  if (callback !== null && callback !== undefined && typeof callback !== 'object' && typeof callback !== 'function') {
    throw new TypeError('a listener is a function or an object');
  }
  if (callback === null || callback === undefined || signal?.aborted) return;
  let types = all.get(target);
  if (types === undefined) all.set(target, (types = new Map()));
  let ours = types.get(type);
  if (ours === undefined) {
    const native = (event) => dispatch(target, event);
    nativeAdd.call(target, type, native);
    types.set(type, (ours = { list: [], remove: () => nativeRemove.call(target, type, native) }));
  }
  const { list } = ours;
  if (list.some((one) => one.callback === callback && one.capture === capture)) return;
  const step = () => drop(target, type, callback, capture);
  list.push({ callback, capture, once: Boolean(once), passive: Boolean(passive), removed: false, signal, step });
  if (signal !== undefined) onAbort(signal, step);
}

// The two operations, for targets whose listeners the engine adds and removes with these functions.
export const listening = (nativeAdd, nativeRemove) => ({
  addEventListener(type, callback, options = undefined) {
    add(nativeAdd, nativeRemove, this ?? globalThis, `${type}`, callback, options);
  },
  removeEventListener(type, callback, options = undefined) {
    drop(this ?? globalThis, `${type}`, callback, captures(options));
  },
});

Object.assign(EventTarget.prototype, listening(EventTarget.prototype.addEventListener, EventTarget.prototype.removeEventListener));
shape(EventTarget, 'EventTarget');

const { preventDefault, stopImmediatePropagation } = Event.prototype;
Object.assign(Event.prototype, {
  preventDefault() {
    if (passiveEvent !== this) preventDefault.call(this);
  },
  stopImmediatePropagation() {
    stopImmediatePropagation.call(this);
    stopped.add(this);
  },
});
Object.defineProperty(Event.prototype, 'returnValue', {
  ...Object.getOwnPropertyDescriptor(Event.prototype, 'returnValue'),
  set(value) {
    if (!value) this.preventDefault();
  },
});
showMembers(Event.prototype);
