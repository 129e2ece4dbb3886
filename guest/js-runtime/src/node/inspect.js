// `util.inspect` and `util.format`, as Node.js has them for what programs print: that of @jspm/core is of an old version.

import { describe, isError } from '../errors.js';

const custom = Symbol.for('nodejs.util.inspect.custom');
const DEFAULTS = {
  depth: 2,
  maxArrayLength: 100,
  maxStringLength: 10_000,
  breakLength: 128,
  compact: 3,
  showHidden: false,
  sorted: false,
};

function quoted(text) {
  const quote = ["'", '"', '`'].find((one) => !text.includes(one)) ?? "'";
  const escaped = JSON.stringify(text)
    .slice(1, -1)
    .replaceAll('\\"', '"')
    .replace(/\\u00([01][\da-f])/g, (_, digits) => `\\x${digits.toUpperCase()}`);
  return `${quote}${quote === "'" ? escaped.replaceAll("'", "\\'") : escaped}${quote}`;
}

const keyOf = (key) => {
  if (typeof key === 'symbol') return `[${key.toString()}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? key : quoted(key);
};

// The name of an object's class, or null where it has no prototype.
function classOf(object) {
  for (let at = object; at !== null; at = Object.getPrototypeOf(at)) {
    const found = Object.getOwnPropertyDescriptor(at, 'constructor')?.value;
    if (typeof found === 'function' && found.name !== '' && object instanceof found) return found.name;
  }
  return null;
}

function primitive(value, context) {
  if (typeof value === 'string') {
    const over = value.length - context.maxStringLength;
    return over > 0
      ? `${quoted(value.slice(0, context.maxStringLength))}... ${over} more character${over > 1 ? 's' : ''}`
      : quoted(value);
  }
  if (typeof value === 'bigint') return `${value}n`;
  return Object.is(value, -0) ? '-0' : String(value);
}

function functionName(value, name) {
  if (/^class\b/.test(Function.prototype.toString.call(value))) {
    const above = Object.getPrototypeOf(value)?.name;
    return `[class ${value.name || '(anonymous)'}${above ? ` extends ${above}` : ''}]`;
  }
  return `[${name ?? 'Function'}${value.name === '' ? ' (anonymous)' : `: ${value.name}`}]`;
}

// Those that come first, and how many more there are.
function shortened(values, context, show) {
  const most = Math.max(0, context.maxArrayLength ?? Infinity);
  const shown = values.slice(0, most).map(show);
  const more = values.length - shown.length;
  return more > 0 ? [...shown, `... ${more} more item${more > 1 ? 's' : ''}`] : shown;
}

// The places of a list that have something, and texts for runs of those that have not.
function itemsOf(list) {
  const items = [];
  let empty = 0;
  for (let index = 0; index <= list.length; index++) {
    if (index < list.length && !(index in list)) {
      empty += 1;
      continue;
    }
    if (empty > 0) items.push(`<${empty} empty item${empty > 1 ? 's' : ''}>`);
    empty = 0;
    if (index < list.length) items.push(index);
  }
  return items;
}

const isTyped = (value) => ArrayBuffer.isView(value) && !(value instanceof DataView);

// What stands before the braces, which braces, and what is within, beside properties.
function partsOf(value, context, level) {
  const name = classOf(value);
  const tag = Object.prototype.propertyIsEnumerable.call(value, Symbol.toStringTag) ? '' : value[Symbol.toStringTag];
  const called = (plain) => {
    const shown = name === null ? `[${plain}: null prototype]` : name;
    return typeof tag === 'string' && tag !== '' && tag !== name ? `${shown} [${tag}]` : shown;
  };
  const inner = (one) => show(one, context, level + 1);
  if (Array.isArray(value)) {
    const entries = shortened(itemsOf(value), context, (item) => (typeof item === 'number' ? inner(value[item]) : item));
    return { base: name === 'Array' ? '' : `${called('Array')}(${value.length})`, braces: '[]', entries, isList: true };
  }
  if (isTyped(value))
    return {
      base: `${called('TypedArray')}(${value.length})`,
      braces: '[]',
      entries: shortened(Array.from(value), context, inner),
      isList: true,
    };
  if (value instanceof Map)
    return {
      base: `${called('Map')}(${value.size})`,
      braces: '{}',
      entries: shortened([...value], context, ([key, one]) => `${inner(key)} => ${inner(one)}`),
    };
  if (value instanceof Set)
    return { base: `${called('Set')}(${value.size})`, braces: '{}', entries: shortened([...value], context, inner) };
  if (value instanceof ArrayBuffer) {
    const bytes = Array.from(new Uint8Array(value).subarray(0, 50), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    return {
      base: called('ArrayBuffer'),
      braces: '{}',
      entries: [`[Uint8Contents]: <${bytes}${value.byteLength > 50 ? ' ...' : ''}>`, `byteLength: ${value.byteLength}`],
    };
  }
  if (value instanceof Promise) return { base: called('Promise'), braces: '{}', entries: ['<unknown>'] };
  if (value instanceof WeakMap || value instanceof WeakSet)
    return { base: called('WeakMap'), braces: '{}', entries: ['<items unknown>'] };
  if (typeof value === 'function') return { alone: functionName(value, name), braces: '{}', entries: [] };
  if (isError(value)) return { alone: describe(value), braces: '{}', entries: [] };
  if (value instanceof Date)
    return { alone: Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString(), braces: '{}', entries: [] };
  if (value instanceof RegExp) return { alone: RegExp.prototype.toString.call(value), braces: '{}', entries: [] };
  for (const Kind of [Number, String, Boolean, Symbol, BigInt]) {
    if (value instanceof Kind)
      return { alone: `[${Kind.name}: ${primitive(value.valueOf(), context)}]`, braces: '{}', entries: [], isBoxed: true };
  }
  return {
    base: name === 'Object' && (typeof tag !== 'string' || tag === '') ? '' : called('Object'),
    braces: '{}',
    entries: [],
  };
}

function property(value, key, context, level) {
  const { get, set, value: held, enumerable } = Object.getOwnPropertyDescriptor(value, key);
  const name = enumerable || typeof key === 'symbol' ? keyOf(key) : `[${key}]`;
  if (get !== undefined) return `${name}: ${set === undefined ? '[Getter]' : '[Getter/Setter]'}`;
  if (set !== undefined) return `${name}: [Setter]`;
  return `${name}: ${show(held, context, level + 1)}`;
}

// The properties that are shown beside what an object's kind is shown as.
function keysOf(value, { showHidden, sorted }, { isList, isBoxed }) {
  const isShown = (key) => {
    if ((isList || isBoxed) && typeof key === 'string' && /^(0|[1-9]\d*)$/.test(key)) return false;
    if (isError(value) && ['stack', 'message', 'cause', 'fileName', 'lineNumber', 'columnNumber'].includes(key)) return false;
    return showHidden || Object.prototype.propertyIsEnumerable.call(value, key);
  };
  const keys = Reflect.ownKeys(value).filter(isShown);
  return sorted ? keys.sort(typeof sorted === 'function' ? sorted : undefined) : keys;
}

const isEmpty = (value) => Reflect.ownKeys(value).length <= (Array.isArray(value) ? 1 : 0) && !(value.size > 0);

function show(value, context, level) {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return primitive(value, context);
  const own = value[custom];
  if (typeof own === 'function' && own !== inspect) {
    const made = own.call(value, context.depth === null ? null : context.depth - level, context, inspect);
    return typeof made === 'string' ? made.replaceAll('\n', `\n${' '.repeat(context.indent)}`) : show(made, context, level);
  }
  if (context.seen.includes(value)) {
    if (!context.circular.has(value)) context.circular.set(value, context.circular.size + 1);
    return `[Circular *${context.circular.get(value)}]`;
  }
  if (context.depth !== null && level > context.depth && !isEmpty(value)) {
    if (Array.isArray(value)) return '[Array]';
    if (!(value instanceof Date || value instanceof RegExp || isError(value) || typeof value === 'function'))
      return `[${classOf(value) ?? 'Object: null prototype'}]`;
  }
  context.seen.push(value);
  context.indent += 2;
  if (!isEmpty(value)) context.last = level;
  const parts = partsOf(value, context, level);
  const { alone, braces, isList } = parts;
  const entries = [...parts.entries, ...keysOf(value, context, parts).map((key) => property(value, key, context, level))];
  context.indent -= 2;
  context.seen.pop();
  let base = alone ?? parts.base;
  if (context.circular.has(value)) base = `<ref *${context.circular.get(value)}>${base === '' ? '' : ` ${base}`}`;
  if (entries.length === 0) return alone !== undefined ? base : `${base === '' ? '' : `${base} `}${braces}`;
  return laidOut(base, braces, entries, context, level, isList);
}

function laidOut(base, [open, close], entries, context, level) {
  const before = base === '' ? open : `${base} ${open}`;
  const start = entries.length + context.indent + open.length + base.length + 10;
  const total = entries.reduce((sum, entry) => sum + entry.length, entries.length + start);
  if (context.last - level < context.compact && total <= context.breakLength && !entries.some((entry) => entry.includes('\n'))) {
    return `${before} ${entries.join(', ')} ${close}`;
  }
  const margin = `\n${' '.repeat(context.indent)}`;
  return `${before}${margin}  ${entries.join(`,${margin}  `)}${margin}${close}`;
}

export function inspect(value, options = {}, ...older) {
  // `inspect(value, showHidden, depth)`, as it once was.
  const given =
    typeof options === 'object' && options !== null
      ? options
      : { showHidden: options, ...(older[0] === undefined ? {} : { depth: older[0] }) };
  const context = { ...DEFAULTS, ...given, seen: [], circular: new Map(), indent: 0, last: 0 };
  context.depth = context.depth === Infinity ? null : context.depth;
  return show(value, context, 0);
}
inspect.custom = custom;
inspect.defaultOptions = DEFAULTS;

const asNumber = (value, make) =>
  typeof value === 'bigint' ? `${value}n` : ['symbol', 'object'].includes(typeof value) ? 'NaN' : `${make(value)}`;

// Those of the language show as `inspect` has them.
const BUILT_IN = [Object, Array, Date, Error, Function, RegExp, Map, Set].map(({ prototype }) => prototype);

function asText(value) {
  if (typeof value === 'bigint') return `${value}n`;
  if (Object.is(value, -0)) return '-0';
  if (typeof value !== 'object' || value === null) return String(value);
  let holder = value;
  while (holder !== null && !Object.hasOwn(holder, 'toString')) holder = Object.getPrototypeOf(holder);
  return holder === null || BUILT_IN.includes(holder) ? inspect(value, { depth: 0 }) : String(value);
}

function asJson(value) {
  try {
    return JSON.stringify(value);
  } catch {
    return '[Circular]';
  }
}

const PLACES = {
  s: asText,
  d: (value) => asNumber(value, Number),
  i: (value) => asNumber(value, (one) => Number.parseInt(one, 10)),
  f: (value) => (typeof value === 'symbol' ? 'NaN' : `${Number.parseFloat(value)}`),
  j: asJson,
  o: (value) => inspect(value, { showHidden: true, depth: 4 }),
  O: (value) => inspect(value),
  c: () => '',
};

export function formatWithOptions(options, ...args) {
  const rest = [...args];
  let text = '';
  if (typeof rest[0] === 'string') {
    text = rest.shift().replace(/%([sdifjoOc%])/g, (place, letter) => {
      if (letter === '%') return args.length === 1 ? place : '%';
      return rest.length === 0 ? place : PLACES[letter](rest.shift());
    });
    if (rest.length > 0) text += ' ';
  }
  return text + rest.map((value) => (typeof value === 'string' ? value : inspect(value, options))).join(' ');
}

export const format = (...args) => formatWithOptions({}, ...args);
