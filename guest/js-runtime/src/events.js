// Listeners of events (DOM, sections 2.6 to 2.10), in front of the engine's EventTarget. The engine's knows no AbortSignal, goes on
// with listeners that were removed meanwhile, stops at one that throws, and calls all with the global object as `this`. So it gets
// one listener for each type, which calls ours.

import { AbortSignal, onAbort } from './abort.js';
import { tell } from './loop.js';
import { shape, showMembers } from './shape.js';

// Of each target, by type: lists of { callback, capture, once, passive, removed }.
const all = new WeakMap();
// Events whose propagation was stopped at once.
const stopped = new WeakSet();
// The event that a passive listener looks at.
let passiveEvent = null;

function dispatch(target, event) {
  for (const listener of [...(all.get(target)?.get(event.type) ?? [])]) {
    if (listener.removed) continue;
    if (listener.once) drop(target, event.type, listener.callback, listener.capture);
    passiveEvent = listener.passive ? event : null;
    try {
      if (typeof listener.callback === 'function') listener.callback.call(target, event);
      else listener.callback.handleEvent(event);
    } catch (error) {
      tell(error);
    }
    passiveEvent = null;
    if (stopped.delete(event)) break;
  }
}

function drop(target, type, callback, capture) {
  const list = all.get(target)?.get(type) ?? [];
  const index = list.findIndex((one) => one.callback === callback && one.capture === capture);
  if (index >= 0) list.splice(index, 1)[0].removed = true;
}

const captures = (options) => Boolean(typeof options === 'object' && options !== null ? options.capture : options);

function add(nativeAdd, target, type, callback, options) {
  const capture = captures(options);
  const { once = false, passive = false, signal } = typeof options === 'object' && options !== null ? options : {};
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new TypeError('the option signal is no AbortSignal');
  if (callback !== null && callback !== undefined && typeof callback !== 'object' && typeof callback !== 'function') {
    throw new TypeError('a listener is a function or an object');
  }
  if (callback === null || callback === undefined || signal?.aborted) return;
  let types = all.get(target);
  if (types === undefined) all.set(target, (types = new Map()));
  let list = types.get(type);
  if (list === undefined) {
    nativeAdd.call(target, type, (event) => dispatch(target, event));
    types.set(type, (list = []));
  }
  if (list.some((one) => one.callback === callback && one.capture === capture)) return;
  list.push({ callback, capture, once: Boolean(once), passive: Boolean(passive), removed: false });
  if (signal !== undefined) onAbort(signal, () => drop(target, type, callback, capture));
}

// The two operations, for targets whose listeners the engine adds with this function.
export const listening = (nativeAdd) => ({
  addEventListener(type, callback, options = undefined) {
    add(nativeAdd, this ?? globalThis, `${type}`, callback, options);
  },
  removeEventListener(type, callback, options = undefined) {
    drop(this ?? globalThis, `${type}`, callback, captures(options));
  },
});

Object.assign(EventTarget.prototype, listening(EventTarget.prototype.addEventListener));
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
showMembers(Event.prototype);
