// The shape that Web IDL asks of interfaces, and that classes of JavaScript do not have by themselves.

// Where the runtime keeps what it knows of an object. Nothing of it shows in JSON or among the keys that are strings. One symbol
// costs the engine, an interpreter, much less than private fields do. What is no object of the runtime has none, so that
// reading a part of it is a TypeError, which is what the standards ask for.
export const INNER = Symbol('inner');

export const define = (target, name, value) =>
  Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });

// Makes a function or an interface global, under its name, which bundling may have changed. Functions are enumerable.
export function provide(name, value) {
  Object.defineProperty(value, 'name', { value: name, configurable: true });
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: /^[a-z]/.test(name) });
}

const OF_FUNCTIONS = new Set(['constructor', 'length', 'name', 'prototype']);

// Operations and attributes are enumerable.
export function showMembers(target) {
  for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(target))) {
    if (OF_FUNCTIONS.has(name) || !descriptor.configurable) continue;
    Object.defineProperty(target, name, { ...descriptor, enumerable: true });
  }
}

// Gives an interface attributes that cannot be set: members of INNER, or of what `of` takes from it.
export function attributes(Interface, names, of = (inner) => inner) {
  for (const name of names) {
    const { get } = Object.getOwnPropertyDescriptor(
      {
        get [name]() {
          return of(this[INNER])[name];
        },
      },
      name,
    );
    Object.defineProperty(Interface.prototype, name, { get, enumerable: true, configurable: true });
  }
}

// Gives an interface its name, which bundling may have changed, and the number of arguments that its constructor needs.
export function shape(Interface, name, length = 0) {
  Object.defineProperty(Interface, 'name', { value: name, configurable: true });
  Object.defineProperty(Interface, 'length', { value: length, configurable: true });
  Object.defineProperty(Interface.prototype, Symbol.toStringTag, { value: name, configurable: true });
  showMembers(Interface);
  showMembers(Interface.prototype);
}
