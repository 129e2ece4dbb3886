// Classes of Unicode in regular expressions (`\p{L}`), which the engine has no tables for: those that a bundle names go into it, from
// Node's own tables. `src/classes.js` reads them.

// For esbuild: what has the flags `u` or `v` is written as `new RegExp`. (Asked for classes of Unicode alone, it leaves out those in brackets.)
export const WITHOUT_LITERALS = { 'regexp-sticky-and-unicode-flags': false, 'regexp-set-notation': false };

// All characters of some parts of Unicode, in the order of their numbers; those of the last part take two units each.
const PARTS = [
  [0, 0xd800, 1],
  [0xe000, 0x10000, 1],
  [0x10000, 0x110000, 2],
].map(([from, to, units]) => ({ from, to, units, text: undefined }));

function textOf(part) {
  if (part.text === undefined) {
    const pieces = [];
    for (let at = part.from; at < part.to; at += 0x800) {
      pieces.push(String.fromCodePoint(...Array.from({ length: 0x800 }, (_, index) => at + index)));
    }
    part.text = pieces.join('');
  }
  return part.text;
}

// The first and the last number of each range, as differences to the number before; undefined for what is no class.
function rangesOf(name) {
  let pattern;
  try {
    pattern = new RegExp(`\\p{${name}}+`, 'gu');
  } catch {
    return undefined;
  }
  const ranges = [];
  const add = (from, to) => {
    if (ranges.length > 0 && ranges.at(-1) === from - 1) ranges[ranges.length - 1] = to;
    else ranges.push(from, to);
  };
  for (const part of PARTS) {
    // Surrogates are all alike, and come behind the first part.
    if (part.from === 0xe000 && '\ud800'.match(pattern) !== null) add(0xd800, 0xdfff);
    for (const { 0: run, index } of textOf(part).matchAll(pattern)) {
      const from = part.from + index / part.units;
      add(from, from + run.length / part.units - 1);
    }
  }
  return ranges.map((number, index) => number - (index > 0 ? ranges[index - 1] : 0));
}

// The classes that a bundle names; undefined if there are none.
export function classesOf(code) {
  const table = {};
  for (const [, name] of code.matchAll(/\\[pP]\{([\w=]+)\}/g)) table[name] ??= rangesOf(name);
  return Object.values(table).some(Boolean) ? table : undefined;
}
