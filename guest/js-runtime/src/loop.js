// Waiting: timers, and pollables of the host, together in one call of `poll`. The engine's own loop runs only one turn of
// this at a time, on a timer of its own that is due at once: it drains the microtasks between turns, and ends when the
// component's call does. Whatever waits must wait here, since a turn blocks until something of this is ready. A call always
// finds a turn in wait: it costs nothing when the call ends without one, and tells when there is nothing to wait for.

import { describe } from './errors.js';
import { dropPollable, now, poll, timer } from './wasi.js';

const nextTurn = globalThis.setTimeout;

// Whether a call of the component is under way. Outside of one nothing can be waited for.
let active = false;
let armed = false;
// Turns in a row in which nothing was waited for.
let idle = 0;
// The engine may have some work of its own left between turns.
const IDLE_MAX = 1000;
// Those who wait for a pollable: { pollable, resolve, reject }.
let waiting = [];
// Timers by their numbers: { number, due, run, every }; and in a binary heap, the earliest first, in which those that were stopped
// stay for a while.
const timers = new Map();
let heap = [];
let lastTimer = 0;
// What was due at the last look at the clock has its turn before the next `poll`.
let looked = 0;
// What is left to do at the end of the call.
const atEnd = new Set();

// What is done at the beginning of each call.
let begun = null;

// What is done between turns, and at the end of the call.
let settled = () => {};
// The reasons that were given to those who waited for what a call left.
const over = new WeakSet();

const OUTSIDE = 'timers and I/O need a request: at the top level there is none, nor once the response was sent (see ctx.waitUntil)';

const ENDLESS =
  "the handler's promise, or one given to ctx.waitUntil, can never settle: it waits for nothing (no timer, no request, no body)";

function arm() {
  if (!armed) {
    armed = true;
    nextTurn(turn, 0);
  }
}

export const isActive = () => active;

// Has something done, once, at the end of the call, or of the first one if there is none yet.
export const whenOver = (step) => atEnd.add(step);

// Has something done at the beginning of each call.
export const whenBegun = (step) => {
  begun = step;
};

// Has something done at each point at which the microtasks have run, and at the end of each call.
export const whenSettled = (step) => {
  settled = step;
};

// Resolves when the microtasks have run, also at the end of a call.
export const microtasksOver = () => new Promise((resolve) => nextTurn(resolve, 0));

// Whether a promise was rejected with this only because its request was over.
export const isOver = (reason) => over.has(reason);

export function beginCall() {
  active = true;
  idle = 0;
  if (begun !== null) begun();
  arm();
}

// What is still waited for is given up: it would go on within another request.
export function endCall() {
  settled();
  active = false;
  if (heap.length > 0) {
    timers.clear();
    heap = [];
  }
  if (waiting.length > 0) {
    const reason = new DOMException('the request is over', 'AbortError');
    over.add(reason);
    for (const { pollable, reject } of waiting) {
      dropPollable(pollable);
      reject(reason);
    }
    waiting = [];
  }
  if (atEnd.size > 0) {
    for (const step of atEnd) step();
    atEnd.clear();
  }
}

// Resolves when the pollable, which this takes, is ready.
export function ready(pollable) {
  return new Promise((resolve, reject) => {
    if (!active) {
      dropPollable(pollable);
      throw new Error(OUTSIDE);
    }
    waiting.push({ pollable, resolve, reject });
    arm();
  });
}

// Ends the wait for a pollable, before what it belongs to goes.
export function giveUp(pollable, reason) {
  const index = waiting.findIndex((one) => one.pollable === pollable);
  if (index < 0) return;
  const [{ reject }] = waiting.splice(index, 1);
  dropPollable(pollable);
  reject(reason);
}

function turn() {
  armed = false;
  settled();
  if (waiting.length === 0 && timers.size === 0) return pause();
  idle = 0;
  const due = earliest();
  if (due === undefined || due.due > looked) wait(due);
  if (due !== undefined && due.due <= looked) fire(due);
  arm();
}

// Waits until something that others wait for is ready, or the timer is due.
function wait(due) {
  looked = now();
  if (waiting.length === 0 && due.due <= looked) return;
  const pollables = waiting.map((one) => one.pollable);
  if (due !== undefined) pollables.push(timer(due.due - looked));
  const found = new Set(poll(pollables));
  if (due !== undefined) dropPollable(pollables[pollables.length - 1]);
  const before = waiting;
  waiting = [];
  for (let index = 0; index < before.length; index++) {
    if (found.has(index)) {
      dropPollable(before[index].pollable);
      before[index].resolve();
    } else {
      waiting.push(before[index]);
    }
  }
  looked = now();
}

// The microtasks have run, the call is not over, and nothing is left that could go on with it.
function pause() {
  if (idle < IDLE_MAX) {
    idle += 1;
    return arm();
  }
  // Without a turn in wait the engine gives the call up.
  return tell(ENDLESS);
}

const isBefore = (one, other) => one.due < other.due || (one.due === other.due && one.number < other.number);

function push(one) {
  let at = heap.length;
  for (; at > 0; ) {
    const above = (at - 1) >> 1;
    if (!isBefore(one, heap[above])) break;
    heap[at] = heap[above];
    at = above;
  }
  heap[at] = one;
}

function pop() {
  const last = heap.pop();
  const { length } = heap;
  if (length === 0) return;
  let at = 0;
  for (let below = 1; below < length; below = 2 * at + 1) {
    if (below + 1 < length && isBefore(heap[below + 1], heap[below])) below += 1;
    if (!isBefore(heap[below], last)) break;
    heap[at] = heap[below];
    at = below;
  }
  heap[at] = last;
}

const isLive = (one) => timers.get(one.number) === one;

function earliest() {
  while (heap.length > 0 && !isLive(heap[0])) pop();
  return heap[0];
}

// One timer a turn, so that the microtasks it leaves run before the next.
function fire(one) {
  pop();
  if (one.every === undefined) {
    timers.delete(one.number);
  } else {
    one.due = now() + Math.max(1, one.every);
    push(one);
  }
  try {
    one.run();
  } catch (error) {
    report(error);
  }
}

// Tells of an error that nobody else hears of, on standard error.
export function tell(error) {
  console.error(describe(error));
}

let reporter = tell;

// What is done with an error that nobody catches.
export const reportWith = (step) => {
  reporter = step;
};
export const report = (error) => reporter(error);

function start(callback, ms, args, repeats) {
  if (typeof callback !== 'function') throw new TypeError('a timer takes a function');
  if (!active) throw new Error(OUTSIDE);
  // HTML, section "Timers": a `long`, so that Infinity and what is too large for it are 0.
  const delay = Math.max(0, Number(ms) | 0);
  const number = ++lastTimer;
  const one = {
    number,
    due: now() + delay,
    run: args.length === 0 ? callback : () => callback(...args),
    every: repeats ? delay : undefined,
  };
  timers.set(number, one);
  push(one);
  arm();
  return number;
}

// Of those that were stopped, there are never many more than of the others.
const STOPPED_MAX = 64;

function stop(number) {
  if (!timers.delete(Number(number)) || heap.length <= 2 * timers.size + STOPPED_MAX) return;
  const stale = heap;
  heap = [];
  for (const one of stale) if (isLive(one)) push(one);
}

export const globals = {
  setTimeout: (callback, ms, ...args) => start(callback, ms, args, false),
  setInterval: (callback, ms, ...args) => start(callback, ms, args, true),
  clearTimeout: (number) => stop(number),
  clearInterval: (number) => stop(number),
  reportError(error) {
    if (arguments.length === 0) throw new TypeError('reportError needs what to report');
    report(error);
  },
};
