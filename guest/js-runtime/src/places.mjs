// Where the bundle's lines come from. `build.mjs` writes a table from esbuild's source map, which is a small part of the map's
// size; the runtime reads it when an error is told of.
//
// The table is JSON: the sources' names, and a text of steps in the digits of source maps. A step has five numbers, of which each
// is the difference to the step before: line and column of the bundle (the column begins anew with each line), the source, and
// what to add to a line and to a column of the bundle from here on. All count from 0. The runtime's own sources, whose names
// begin with `wasmhost:`, have no columns.

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

function digitsOf(number) {
  let text = '';
  for (let rest = number < 0 ? (-number << 1) | 1 : number << 1, more = true; more; rest >>>= 5) {
    more = rest >= 32;
    text += DIGITS[(rest & 31) | (more ? 32 : 0)];
  }
  return text;
}

const isOfRuntime = (name) => name.startsWith('wasmhost:');

// The table of a source map.
export function encode(mappings, names) {
  let steps = '';
  // The place in the source that the map's last segment names, and the last step.
  const from = { source: 0, line: 0, column: 0 };
  let last = { line: 0, column: 0, source: 0, addLine: 0, addColumn: 0 };
  mappings.split(';').forEach((segments, line) => {
    let column = 0;
    for (const segment of segments.split(',')) {
      const [columns, sources, lines, sourceColumns] = numbersOf(segment);
      if (columns === undefined) continue;
      column += columns;
      if (lines === undefined) continue;
      from.source += sources;
      from.line += lines;
      from.column += sourceColumns;
      const addColumn = isOfRuntime(names[from.source]) ? 0 : from.column - column;
      const step = { line, column, source: from.source, addLine: from.line - line, addColumn };
      const isSame = ['source', 'addLine', 'addColumn'].every((member) => step[member] === last[member]);
      if (isSame && steps !== '') continue;
      for (const member of Object.keys(step)) {
        steps += digitsOf(step[member] - (member === 'column' && line > last.line ? 0 : last[member]));
      }
      last = step;
    }
  });
  return JSON.stringify([names, steps]);
}

// Gives the function that writes sources' places in the place of the bundle's.
export function reader(table) {
  const [names, text] = JSON.parse(table);
  const steps = numbersOf(text);
  // From here on these are no differences.
  for (let at = 5; at < steps.length; at += 5) {
    if (steps[at] === 0) steps[at + 1] += steps[at - 4];
    for (const member of [0, 2, 3, 4]) steps[at + member] += steps[at + member - 5];
  }
  const place = (line, column) => {
    let low = 0;
    let high = steps.length / 5;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = middle * 5;
      if (steps[at] < line || (steps[at] === line && steps[at + 1] <= column)) low = middle + 1;
      else high = middle;
    }
    const at = (low - 1) * 5;
    if (at < 0) return undefined;
    const found = `${names[steps[at + 2]]}:${line + steps[at + 3] + 1}`;
    return isOfRuntime(found) ? found : `${found}:${Math.max(0, column + steps[at + 4]) + 1}`;
  };
  // The engine counts from 1.
  return (words) =>
    words.replace(/wasmhost-bundle\.js:(\d+):(\d+)/g, (all, line, column) => place(line - 1, column - 1) ?? all);
}
