// Where the bundle's lines come from. `build.mjs` writes a table from esbuild's source map, for lines and not for columns,
// which is a small part of the map's size; the runtime reads it when an error is told of.
//
// The table is JSON: the sources' names, and a list of numbers, four a step: lines of the bundle since the step before, the
// column, the source, and what to add to a line of the bundle from here on. Lines and columns begin with 1, sources with 0.

export const BUNDLE = 'wasmhost-bundle.js';

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

// The numbers of a segment of a source map (ECMA-426, "VLQ").
function numbersOf(segment) {
  const numbers = [];
  let value = 0;
  let shift = 0;
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit);
    value += (bits & 31) << shift;
    shift += 5;
    if (bits >= 32) continue;
    numbers.push(value & 1 ? -(value >>> 1) : value >>> 1);
    value = 0;
    shift = 0;
  }
  return numbers;
}

// The table of a source map.
export function encode(mappings, names) {
  const steps = [];
  const from = { source: 0, line: 0 };
  const last = { line: 0, source: -1, add: 0 };
  mappings.split(';').forEach((segments, index) => {
    let column = 0;
    for (const segment of segments.split(',')) {
      const [columns, sources, lines] = numbersOf(segment);
      if (columns === undefined) continue;
      column += columns;
      if (lines === undefined) continue;
      from.source += sources;
      from.line += lines;
      const add = from.line - index;
      if (from.source === last.source && add === last.add) continue;
      steps.push(index + 1 - last.line, column + 1, from.source, add);
      Object.assign(last, { line: index + 1, source: from.source, add });
    }
  });
  return JSON.stringify([names, steps]);
}

// Gives the function that writes sources' places in the place of the bundle's.
export function reader(table) {
  const [names, steps] = JSON.parse(table);
  // From here on these are lines, no differences.
  for (let at = 4; at < steps.length; at += 4) steps[at] += steps[at - 4];
  const place = (line, column) => {
    let low = 0;
    let high = steps.length / 4;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = middle * 4;
      if (steps[at] < line || (steps[at] === line && steps[at + 1] <= column)) low = middle + 1;
      else high = middle;
    }
    const at = (low - 1) * 4;
    return at < 0 ? undefined : `${names[steps[at + 2]]}:${line + steps[at + 3]}`;
  };
  return (text) =>
    text.replace(/wasmhost-bundle\.js:(\d+):(\d+)/g, (all, line, column) => place(Number(line), Number(column)) ?? all);
}
