// Rejected promises that nobody handles. The engine has no event for them, but keeps a set of them: a promise enters when it is
// rejected without a handler, and leaves when it gets one. At the end of the build the engine prints what is in the set. It asks an
// iterator of the set for `Symbol.iterator` then, as `for` does, and so we get this iterator. It also shows what enters later, in
// the instances too, which start from the build's memory, as long as it is never asked behind the last element. So each look
// puts a promise of our own behind the others, and stops there.

import { describe, stackOf } from './errors.js';
import { isOver, whenSettled } from './loop.js';
import { attributes, INNER, provide, shape } from './shape.js';

// A look costs some microseconds. An instance that serves looks at every so many occasions.
const OCCASIONS = 32;

const prototype = Object.getPrototypeOf(new Set().values());
const { next } = prototype;
const { then } = Promise.prototype;
const { apply } = Reflect;
const rejected = Promise.reject.bind(Promise);
const ignore = () => {};

let iterator = null;
// Our own promise, which stands behind all that was looked at.
let last = rejected();
let occasions = 0;
let every = OCCASIONS;

class PromiseRejectionEvent extends Event {
  constructor(type, init) {
    super(type, init);
    this[INNER] = { promise: init.promise, reason: init.reason };
  }
}
attributes(PromiseRejectionEvent, ['promise', 'reason']);
shape(PromiseRejectionEvent, 'PromiseRejectionEvent', 2);
provide('PromiseRejectionEvent', PromiseRejectionEvent);

Object.defineProperty(prototype, Symbol.iterator, {
  configurable: true,
  value() {
    // Called by the engine itself, this stands alone on the stack.
    if (iterator !== null || stackOf(new Error()).trim().includes('\n')) return this;
    delete prototype[Symbol.iterator];
    iterator = this;
    // The engine would print those of the top level where nobody sees it. The first look tells of them.
    return [].values();
  },
});

// The promises that entered since the last look, and did not leave.
function take() {
  const mark = rejected();
  const entered = [];
  for (;;) {
    const { value } = apply(next, iterator, []);
    if (value === mark) break;
    if (value !== last) entered.push(value);
  }
  apply(then, last, [undefined, ignore]);
  last = mark;
  return entered;
}

// Tells of those that nobody handles. All microtasks have run, or the request is over.
export function look() {
  occasions = 0;
  if (iterator === null) return;
  for (const promise of take()) apply(then, promise, [undefined, (reason) => tellOf(promise, reason)]);
}

function tellOf(promise, reason) {
  if (isOver(reason)) return;
  const event = new PromiseRejectionEvent('unhandledrejection', { cancelable: true, promise, reason });
  if (globalThis.dispatchEvent(event)) console.error(`Unhandled rejection: ${describe(reason)}`);
}

whenSettled(() => {
  occasions += 1;
  if (occasions >= every) look();
});

// From now on, at every occasion: while developing, and where the application listens.
export function lookAlways() {
  every = 1;
}
