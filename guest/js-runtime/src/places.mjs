// Where the bundle's lines come from. `build.mjs` writes a table from esbuild's source map, which is a small part of the map's
// size; the runtime reads it when an error is told of.
//
// The table is JSON: the sources' names, and blocks, each with its first line of the bundle and a text of steps in the digits of
// source maps. A step has five numbers: line and column of the bundle, the source, and what to add to a line and to a column of
// the bundle from here on. All count from 0, and each is the difference to the step before in the block (but for the column of
// a step in another line). The runtime's own sources, whose names begin with `wasmhost:`, have no columns.

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

// So few steps are read for a place. It takes the interpreter a tenth of a second to read all.
const BLOCK_STEPS = 128;

const isOfRuntime = (name) => name.startsWith('wasmhost:');

// The table of a source map, which is that of this code.
export function encode(mappings, names, code) {
  const text = code.split('\n');
  const blocks = [];
  let count = 0;
  // The place in the source that the map's last segment names, and the last step.
  const from = { source: 0, line: 0, column: 0 };
  let last = {};
  mappings.split(';').forEach((segments, line) => {
    let mapped = 0;
    for (const segment of segments.split(',')) {
      const [columns, sources, lines, sourceColumns] = numbersOf(segment);
      if (columns === undefined) continue;
      mapped += columns;
      if (lines === undefined) continue;
      from.source += sources;
      from.line += lines;
      from.column += sourceColumns;
      // esbuild names the column before the space that it puts there.
      let column = mapped;
      while (text[line][column] === ' ') column += 1;
      const addColumn = isOfRuntime(names[from.source]) ? 0 : from.column - column;
      const step = { line, column, source: from.source, addLine: from.line - line, addColumn };
      const isSame = ['source', 'addLine', 'addColumn'].every((member) => step[member] === last[member]);
      if (isSame) continue;
      if (count % BLOCK_STEPS === 0) {
        blocks.push([line, '']);
        last = { line, column: 0, source: 0, addLine: 0, addColumn: 0 };
      }
      count += 1;
      const block = blocks.at(-1);
      for (const member of Object.keys(step)) {
        block[1] += digitsOf(step[member] - (member === 'column' && line > last.line ? 0 : last[member]));
      }
      last = step;
    }
  });
  return JSON.stringify([names, blocks]);
}

// What a source map says of names that bundling has changed: the original ones, by `LINE:COLUMN` of the bundle. These count as a parser
// of JavaScript does, from 1 and from 0.
export function originals(mappings, names) {
  const found = new Map();
  let name = 0;
  mappings.split(';').forEach((segments, line) => {
    let column = 0;
    for (const segment of segments.split(',')) {
      const [columns, , , , namesOn] = numbersOf(segment);
      if (columns === undefined) continue;
      column += columns;
      if (namesOn === undefined) continue;
      name += namesOn;
      found.set(`${line + 1}:${column}`, names[name]);
    }
  });
  return found;
}

// Gives the function that writes sources' places in the place of the bundle's.
export function reader(table) {
  const [names, blocks] = JSON.parse(table);
  // Where the last of those that are not behind this place begins.
  const lastOf = (count, isBehind) => {
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBehind(middle)) high = middle;
      else low = middle + 1;
    }
    return low - 1;
  };
  // A block's steps, which are no differences any more. The same places come again.
  const read = new Map();
  const stepsOf = (block) => {
    const found = read.get(block);
    if (found !== undefined) return found;
    const [first, text] = blocks[block];
    const steps = numbersOf(text);
    read.set(block, steps);
    steps[0] += first;
    for (let at = 5; at < steps.length; at += 5) {
      if (steps[at] === 0) steps[at + 1] += steps[at - 4];
      for (const member of [0, 2, 3, 4]) steps[at + member] += steps[at + member - 5];
    }
    return steps;
  };
  const inBlock = (block, line, column) => {
    if (block < 0) return undefined;
    const steps = stepsOf(block);
    const step = lastOf(steps.length / 5, (one) => {
      const [atLine, atColumn] = steps.slice(one * 5, one * 5 + 2);
      return atLine > line || (atLine === line && atColumn > column);
    });
    // The block may begin behind the place, in the same line.
    return step < 0 ? inBlock(block - 1, line, column) : steps.slice(step * 5, step * 5 + 5);
  };
  const place = (line, column) => {
    const step = inBlock(lastOf(blocks.length, (block) => blocks[block][0] > line), line, column);
    if (step === undefined) return undefined;
    const [, , source, addLine, addColumn] = step;
    const found = `${names[source]}:${line + addLine + 1}`;
    return isOfRuntime(found) ? found : `${found}:${Math.max(0, column + addColumn) + 1}`;
  };
  // The engine counts from 1.
  return (words) =>
    words.replace(/wasmhost-bundle\.js:(\d+):(\d+)/g, (all, line, column) => place(line - 1, column - 1) ?? all);
}
