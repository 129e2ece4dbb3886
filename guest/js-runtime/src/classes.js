// RegExp with classes of Unicode (`\p{L}`) in front of the engine's, which has no tables for them. `build.mjs` imports this before all
// modules of an application that names such classes, with the tables of those.

import table from 'wasmhost:classes';

import { define } from './shape.js';

const END = 0x10ffff;
const escaped = (number) => `\\u{${number.toString(16)}}`;
const shown = (ranges) => ranges.map(([from, to]) => (from === to ? escaped(from) : `${escaped(from)}-${escaped(to)}`)).join('');

function without(ranges) {
  const others = [];
  let next = 0;
  for (const [from, to] of ranges) {
    if (from > next) others.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= END) others.push([next, END]);
  return others;
}

// What stands in brackets for `p` or `P` of a name, once it was asked for.
const contents = new Map();

function contentOf(letter, name) {
  const key = letter + name;
  if (!contents.has(key)) {
    const ranges = [];
    let last = 0;
    for (const [index, difference] of table[name].entries()) {
      last += difference;
      if (index % 2 === 0) ranges.push([last]);
      else ranges.at(-1).push(last);
    }
    contents.set(key, shown(letter === 'p' ? ranges : without(ranges)));
  }
  return contents.get(key);
}

const CLASS = /\\([pP])\{([\w=]+)\}/y;

function written(source, hasSets) {
  let made = '';
  // How many brackets are open: only with the flag `v` there are some within others.
  let open = 0;
  for (let at = 0; at < source.length; ) {
    const character = source[at];
    CLASS.lastIndex = at;
    const found = CLASS.exec(source);
    if (found !== null && Array.isArray(table[found[2]])) {
      const content = contentOf(found[1], found[2]);
      made += open > 0 && !hasSets ? content : `[${content}]`;
      at = CLASS.lastIndex;
      continue;
    }
    if (character === '[') open = hasSets ? open + 1 : 1;
    else if (character === ']') open = Math.max(0, open - 1);
    const next = character === '\\' ? at + 2 : at + 1;
    made += source.slice(at, next);
    at = next;
  }
  return made;
}

// What was written for a source: a literal in a function is made anew each time that it runs.
const done = new Map();
const DONE_MAX = 500;

// The sources as they were given, for who asks for them.
const sources = new WeakMap();

function made(args, make) {
  const [pattern, flags] = args;
  const [source, marks] = pattern instanceof Native ? [pattern.source, flags ?? pattern.flags] : [pattern, flags];
  if (typeof source !== 'string' || typeof marks !== 'string' || !/[uv]/.test(marks) || !/\\p\{/i.test(source)) return make(args);
  const hasSets = marks.includes('v');
  const key = `${hasSets}${source}`;
  if (!done.has(key)) {
    if (done.size >= DONE_MAX) done.clear();
    done.set(key, written(source, hasSets));
  }
  const expression = make([done.get(key), marks]);
  sources.set(expression, source);
  return expression;
}

const Native = globalThis.RegExp;
const Wrapped = new Proxy(Native, {
  apply: (target, receiver, args) => made(args, (given) => Reflect.apply(target, receiver, given)),
  construct: (target, args, constructor) =>
    made(args, (given) => Reflect.construct(target, given, constructor === Wrapped ? target : constructor)),
});
const { get, ...rest } = Object.getOwnPropertyDescriptor(Native.prototype, 'source');
Object.defineProperty(Native.prototype, 'source', {
  ...rest,
  get() {
    return sources.get(this) ?? get.call(this);
  },
});
define(Native.prototype, 'constructor', Wrapped);
define(globalThis, 'RegExp', Wrapped);
