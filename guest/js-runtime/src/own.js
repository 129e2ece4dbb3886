// What touches the material of keys, without anything that an application can replace: it runs in the same realm, and could
// put methods of its own where it sees the bytes. So there is no iteration over material either (no `of`, spread or
// destructuring of lists), and no property of it is read from a prototype that others can reach.

const { apply, construct, ownKeys } = Reflect;
export { apply };
const { defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Object;
export const ByteArray = globalThis.Uint8Array;

// A method as a function of its object and its arguments; what reads an accessor.
export const uncurried = Function.prototype.bind.bind(Function.prototype.call);
export const reader = (target, name) => uncurried(getOwnPropertyDescriptor(target, name).get);

const typed = getPrototypeOf(ByteArray.prototype);
export const setBytes = uncurried(typed.set);

// The prototype of byte arrays of ours.
const OWN = { __proto__: null };
function Own() {}
Own.prototype = OWN;
for (const name of ['length', 'buffer', 'byteOffset', 'byteLength']) defineProperty(OWN, name, getOwnPropertyDescriptor(typed, name));

export const zeroed = (length) => construct(ByteArray, [length], Own);
// A copy of a typed array.
export const copied = (array) => construct(ByteArray, [array], Own);

// A part of the same memory.
OWN.subarray = function subarray(from, to = this.length) {
  return construct(ByteArray, [this.buffer, this.byteOffset + from, to - from], Own);
};
Object.freeze(OWN);

// A copy for callers.
export const plain = (bytes) => new ByteArray(bytes);

export function indexIn(list, value) {
  for (let index = 0; index < list.length; index++) if (list[index] === value) return index;
  return -1;
}
export const contains = (list, value) => indexIn(list, value) >= 0;

// The object with these members and no prototype, in which no accessor of another stands for one that is missing.
export function bare(members) {
  const made = { __proto__: null };
  const names = ownKeys(members);
  for (let index = 0; index < names.length; index++) made[names[index]] = members[names[index]];
  return made;
}
