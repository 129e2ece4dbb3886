// node:async_hooks: a store for each chain of calls. The engine tells nobody when it goes on with an `async` function, so
// `build.mjs` has those of an application that uses this turned into generators, which wait with `then`; and `then`, timers and
// microtasks run here with the stores that they were given under.

import { whenBegun } from '../loop.js';
import { define } from '../shape.js';

// The stores of the code that runs: a Map that nobody changes, from AsyncLocalStorage to store, or null for none.
let current = null;

function runWith(stores, run, receiver, args) {
  const before = current;
  current = stores;
  try {
    return Reflect.apply(run, receiver, args);
  } finally {
    current = before;
  }
}

// A function that runs with the present stores.
function held(run) {
  if (typeof run !== 'function') return run;
  const stores = current;
  return function (...args) {
    return runWith(stores, run, this, args);
  };
}

const { then } = Promise.prototype;
define(
  Promise.prototype,
  'then',
  {
    then(onFulfilled, onRejected) {
      return then.call(this, held(onFulfilled), held(onRejected));
    },
  }.then,
);
for (const name of ['queueMicrotask', 'setInterval', 'setTimeout']) {
  const plain = globalThis[name];
  define(globalThis, name, { [name]: (run, ...args) => plain(held(run), ...args) }[name]);
}

// What `enterWith` sets outlasts the code that it ran in.
whenBegun(() => {
  current = null;
});

export class AsyncLocalStorage {
  #initial;

  constructor({ defaultValue, name = '' } = {}) {
    this.#initial = defaultValue;
    this.name = name;
  }

  getStore() {
    return current?.has(this) ? current.get(this) : this.#initial;
  }

  run(store, callback, ...args) {
    return runWith(new Map(current).set(this, store), callback, undefined, args);
  }

  exit(callback, ...args) {
    return this.run(undefined, callback, ...args);
  }

  enterWith(store) {
    current = new Map(current).set(this, store);
  }

  disable() {
    if (current?.has(this)) this.enterWith(undefined);
  }

  static bind(callback) {
    return AsyncResource.bind(callback);
  }

  static snapshot() {
    const stores = current;
    return (callback, ...args) => runWith(stores, callback, undefined, args);
  }
}

export class AsyncResource {
  #stores = current;

  constructor(type) {
    this.type = type;
  }

  runInAsyncScope(callback, receiver, ...args) {
    return runWith(this.#stores, callback, receiver, args);
  }

  bind(callback, receiver) {
    const stores = this.#stores;
    return function (...args) {
      return runWith(stores, callback, receiver ?? this, args);
    };
  }

  static bind(callback, type, receiver) {
    return new AsyncResource(type ?? callback.name).bind(callback, receiver);
  }

  emitDestroy() {
    return this;
  }

  asyncId() {
    return 0;
  }

  triggerAsyncId() {
    return 0;
  }
}

// Nothing here has numbers, and hooks hear of nothing, as on Workers.
export const createHook = () => ({
  enable() {
    return this;
  },
  disable() {
    return this;
  },
});
export const executionAsyncId = () => 0;
export const triggerAsyncId = () => 0;
export const executionAsyncResource = () => ({});

export default { AsyncLocalStorage, AsyncResource, createHook, executionAsyncId, executionAsyncResource, triggerAsyncId };
