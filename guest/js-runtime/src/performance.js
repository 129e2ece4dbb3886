// The clock and the timeline (High Resolution Time, Performance Timeline, User Timing). The engine has the clock only, which
// fails while the component is built, and is counted in 32 bits from then. Marks and measures last until the call ends.

import { globals, isActive, report, whenOver } from './loop.js';
import { attributes, INNER, provide, shape } from './shape.js';
import { now } from './wasi.js';

const KEY = Symbol('key');
const TYPES = Object.freeze(['mark', 'measure']);

// { monotonic, wall }: the two clocks when an instance's time was 0. There is no instance yet while the component is built: its time
// is that of the wall clock, and an instance goes on from what was told then.
let origin = null;
const began = Date.now();
let told = 0;
const originOf = () => (isActive() ? (origin ??= { monotonic: now() - told, wall: Date.now() - told }) : origin);

let entries = [];
const observers = new Set();
let isDelivering = false;

class PerformanceEntry {
  constructor(key, inner) {
    if (key !== KEY) throw new TypeError('Illegal constructor');
    this[INNER] = inner;
  }

  toJSON() {
    const { name, entryType, startTime, duration, detail } = this[INNER];
    return { name, entryType, startTime, duration, ...(detail === undefined ? {} : { detail }) };
  }
}
attributes(PerformanceEntry, ['name', 'entryType', 'startTime', 'duration']);
shape(PerformanceEntry, 'PerformanceEntry');

const detailOf = (given) => (given === undefined || given === null ? null : structuredClone(given));

function timeOf(given) {
  const time = Number(given);
  if (!Number.isFinite(time)) throw new TypeError(`${given} is no time`);
  if (time < 0) throw new TypeError('a time is not negative');
  return time;
}

const dictionary = (given) => {
  if (given === undefined || given === null) return {};
  if (typeof given !== 'object' && typeof given !== 'function') throw new TypeError('options are an object');
  return given;
};

class PerformanceMark extends PerformanceEntry {
  constructor(name, options = undefined) {
    if (arguments.length === 0) throw new TypeError('a mark needs a name');
    const text = `${name}`;
    const { detail, startTime } = dictionary(options);
    const at = startTime === undefined ? performance.now() : timeOf(startTime);
    super(KEY, { name: text, entryType: 'mark', startTime: at, duration: 0, detail: detailOf(detail) });
  }

  get detail() {
    return this[INNER].detail;
  }
}
shape(PerformanceMark, 'PerformanceMark', 1);

class PerformanceMeasure extends PerformanceEntry {
  get detail() {
    return this[INNER].detail;
  }
}
shape(PerformanceMeasure, 'PerformanceMeasure');

// When a mark was, by its name, or a time as it is.
function timeOfMark(given) {
  if (typeof given === 'number') return timeOf(given);
  const name = `${given}`;
  const mark = entries.findLast((entry) => entry instanceof PerformanceMark && entry.name === name);
  if (mark === undefined) throw new DOMException(`there is no mark "${name}"`, 'SyntaxError');
  return mark.startTime;
}

// User Timing, "measure()".
function measured(name, given, endMark) {
  const isDictionary = given === null || given === undefined || typeof given === 'object';
  const { start, end, duration, detail } = isDictionary ? dictionary(given) : { start: given };
  if (isDictionary && [start, end, duration, detail].some((part) => part !== undefined)) {
    if (endMark !== undefined) throw new TypeError('a measure has one end');
    if (start === undefined && end === undefined) throw new TypeError('a measure has a start or an end');
    if (start !== undefined && end !== undefined && duration !== undefined) {
      throw new TypeError('a measure has two of start, end and duration');
    }
  }
  let to;
  if (endMark !== undefined) to = timeOfMark(endMark);
  else if (end !== undefined) to = timeOfMark(end);
  else if (duration !== undefined) to = timeOfMark(start) + timeOf(duration);
  else to = performance.now();
  let from = 0;
  if (start !== undefined) from = timeOfMark(start);
  else if (duration !== undefined) from = to - timeOf(duration);
  return new PerformanceMeasure(KEY, {
    name, entryType: 'measure', startTime: from, duration: to - from, detail: detailOf(detail),
  });
}

const inOrder = (list) => [...list].sort((one, other) => one.startTime - other.startTime);

// What there is of a list of entries in order of time.
const queries = {
  getEntries() {
    return inOrder(this[INNER].entries());
  },

  getEntriesByType(type) {
    if (arguments.length === 0) throw new TypeError('getEntriesByType needs a type');
    const text = `${type}`;
    return inOrder(this[INNER].entries()).filter(({ entryType }) => entryType === text);
  },

  getEntriesByName(name, type = undefined) {
    if (arguments.length === 0) throw new TypeError('getEntriesByName needs a name');
    const text = `${name}`;
    return inOrder(this[INNER].entries()).filter((entry) => entry.name === text && (type === undefined || entry.entryType === `${type}`));
  },
};
const mixQueries = (Interface) => Object.defineProperties(Interface.prototype, Object.getOwnPropertyDescriptors(queries));

class Performance extends EventTarget {
  constructor(key) {
    if (key !== KEY) throw new TypeError('Illegal constructor');
    super();
    this[INNER] = { entries: () => entries };
  }

  get timeOrigin() {
    if (this[INNER] === undefined) throw new TypeError('this is no Performance');
    return originOf()?.wall ?? began;
  }

  now() {
    if (this[INNER] === undefined) throw new TypeError('this is no Performance');
    const from = originOf();
    if (from !== null) return now() - from.monotonic;
    return (told = Math.max(told, Date.now() - began));
  }

  mark(name, options = undefined) {
    const mark = Reflect.construct(PerformanceMark, arguments.length === 0 ? [] : [name, options]);
    add(mark);
    return mark;
  }

  measure(name, startOrOptions = undefined, endMark = undefined) {
    if (arguments.length === 0) throw new TypeError('a measure needs a name');
    const measure = measured(`${name}`, startOrOptions, endMark);
    add(measure);
    return measure;
  }

  clearMarks(name = undefined) {
    clear('mark', name);
  }

  clearMeasures(name = undefined) {
    clear('measure', name);
  }

  toJSON() {
    return { timeOrigin: this.timeOrigin };
  }
}
mixQueries(Performance);
shape(Performance, 'Performance');

function clear(type, name) {
  entries = entries.filter((entry) => entry.entryType !== type || (name !== undefined && entry.name !== `${name}`));
}

function add(entry) {
  entries.push(entry);
  whenOver(clearTimeline);
  for (const observer of observers) {
    const inner = observer[INNER];
    if (inner.types.has(entry.entryType)) inner.queue.push(entry);
  }
  deliverLater();
}

function deliverLater() {
  if (isDelivering || !isActive() || ![...observers].some((observer) => observer[INNER].queue.length > 0)) return;
  isDelivering = true;
  globals.setTimeout(() => {
    isDelivering = false;
    for (const observer of [...observers]) {
      const list = observer.takeRecords();
      if (list.length === 0) continue;
      try {
        observer[INNER].callback.call(observer, new PerformanceObserverEntryList(KEY, list), observer, { droppedEntriesCount: 0 });
      } catch (error) {
        report(error);
      }
    }
  }, 0);
}

// Nothing of a request is left for the next.
function clearTimeline() {
  entries = [];
  isDelivering = false;
  for (const observer of observers) {
    if (observer[INNER].isOfCall) observer.disconnect();
    else observer[INNER].queue = [];
  }
}

class PerformanceObserverEntryList {
  constructor(key, list) {
    if (key !== KEY) throw new TypeError('Illegal constructor');
    this[INNER] = { entries: () => list };
  }
}
mixQueries(PerformanceObserverEntryList);
shape(PerformanceObserverEntryList, 'PerformanceObserverEntryList');

class PerformanceObserver {
  constructor(callback) {
    if (typeof callback !== 'function') throw new TypeError('a PerformanceObserver takes a function');
    // With `entryTypes` it observes several types, given at once; with `type`, one more at each call.
    this[INNER] = { callback, types: new Set(), queue: [], isOfSeveral: null, isOfCall: false };
  }

  observe(options = {}) {
    const inner = this[INNER];
    const { entryTypes, type, buffered } = dictionary(options);
    if (entryTypes === undefined && type === undefined) throw new TypeError('observe takes entryTypes or a type');
    if (entryTypes !== undefined && (type !== undefined || buffered !== undefined)) {
      throw new TypeError('observe takes entryTypes alone, or a type');
    }
    if (typeof entryTypes === 'string') throw new TypeError('entryTypes is a list');
    const isOfSeveral = entryTypes !== undefined;
    if (inner.isOfSeveral !== null && inner.isOfSeveral !== isOfSeveral) {
      throw new DOMException('this observer was given its types in the other way before', 'InvalidModificationError');
    }
    inner.isOfSeveral = isOfSeveral;
    const known = (isOfSeveral ? [...entryTypes].map(String) : [`${type}`]).filter((one) => TYPES.includes(one));
    if (known.length === 0) return;
    if (isOfSeveral) inner.types = new Set(known);
    else inner.types.add(known[0]);
    if (!observers.has(this)) inner.isOfCall = isActive();
    observers.add(this);
    whenOver(clearTimeline);
    if (buffered) inner.queue.push(...entries.filter(({ entryType }) => entryType === known[0]));
    deliverLater();
  }

  disconnect() {
    observers.delete(this);
    if (observers.size === 0) isDelivering = false;
    Object.assign(this[INNER], { types: new Set(), queue: [], isOfSeveral: null });
  }

  takeRecords() {
    const inner = this[INNER];
    const { queue } = inner;
    inner.queue = [];
    return queue;
  }

  static get supportedEntryTypes() {
    return TYPES;
  }
}
shape(PerformanceObserver, 'PerformanceObserver', 1);

const interfaces = {
  Performance, PerformanceEntry, PerformanceMark, PerformanceMeasure, PerformanceObserver, PerformanceObserverEntryList,
};
for (const [name, Interface] of Object.entries(interfaces)) provide(name, Interface);
const performance = new Performance(KEY);
Object.defineProperty(globalThis, 'performance', { value: performance, writable: true, configurable: true, enumerable: true });
