// AbortController and AbortSignal (DOM, section 3). The engine's own keep no reason, and its time-outs would wait in a loop
// of their own, beside `loop.js`.

import { globals, isActive, whenOver } from './loop.js';
import { INNER, shape } from './shape.js';

const KEY = Symbol('key');
const TIMER_MAX_MS = 2 ** 31 - 1;

const aborted = () => new DOMException('the operation was aborted', 'AbortError');

export class AbortSignal extends EventTarget {
  constructor(key) {
    if (key !== KEY) throw new TypeError('Illegal constructor');
    super();
    // `steps` are done when it comes, before listeners hear of it. `sources` are those that one of `any` follows (null for
    // others), `dependents` those that follow this one.
    this[INNER] = { aborted: false, reason: undefined, listener: null, steps: null, sources: null, dependents: null };
  }

  get aborted() {
    return this[INNER].aborted;
  }

  get reason() {
    return this[INNER].reason;
  }

  get onabort() {
    return this[INNER].listener;
  }

  set onabort(listener) {
    const inner = this[INNER];
    if (inner.listener !== null) this.removeEventListener('abort', inner.listener);
    inner.listener = typeof listener === 'function' ? listener : null;
    if (inner.listener !== null) this.addEventListener('abort', inner.listener);
  }

  throwIfAborted() {
    const { aborted, reason } = this[INNER];
    if (aborted) throw reason;
  }

  static abort(reason = undefined) {
    const signal = new AbortSignal(KEY);
    mark(signal, reason);
    return signal;
  }

  static timeout(ms) {
    const most = Number(ms);
    if (!(most > -1 && most <= Number.MAX_SAFE_INTEGER)) throw new TypeError(`${ms} is no time-out: a number of milliseconds is`);
    const signal = new AbortSignal(KEY);
    // No call lives as long as the longest timer, 24 days.
    globals.setTimeout(() => abort(signal, new DOMException('the time is over', 'TimeoutError')), Math.min(most, TIMER_MAX_MS));
    return signal;
  }

  static any(signals) {
    const signal = new AbortSignal(KEY);
    const given = [...signals];
    if (!given.every((one) => one instanceof AbortSignal)) throw new TypeError('AbortSignal.any takes AbortSignals');
    const first = given.find((one) => one.aborted);
    if (first !== undefined) {
      mark(signal, first.reason);
      return signal;
    }
    const sources = new Set(given.flatMap((one) => (one[INNER].sources === null ? one : [...one[INNER].sources])));
    signal[INNER].sources = sources;
    for (const source of sources) (source[INNER].dependents ??= new Set()).add(signal);
    if (isActive()) {
      ofCall.add(signal);
      whenOver(release);
    }
    return signal;
  }
}
shape(AbortSignal, 'AbortSignal');

// Those of `any` that the present call has made. Their sources may stay longer.
const ofCall = new Set();

function release() {
  ofCall.forEach(unfollow);
  ofCall.clear();
}

function unfollow(signal) {
  for (const source of signal[INNER].sources ?? []) source[INNER].dependents?.delete(signal);
}

function mark(signal, reason) {
  signal[INNER].aborted = true;
  signal[INNER].reason = reason === undefined ? aborted() : reason;
}

// All that depend on it are marked before anybody hears of it.
function abort(signal, reason) {
  const inner = signal[INNER];
  if (inner.aborted) return;
  mark(signal, reason);
  const told = [signal];
  for (const dependent of inner.dependents ?? []) {
    if (dependent.aborted) continue;
    mark(dependent, inner.reason);
    told.push(dependent);
  }
  inner.dependents = null;
  told.forEach(tell);
}

function tell(signal) {
  const inner = signal[INNER];
  const { steps } = inner;
  inner.steps = null;
  unfollow(signal);
  for (const step of steps ?? []) step();
  const event = new Event('abort');
  Object.defineProperty(event, 'isTrusted', { value: true });
  signal.dispatchEvent(event);
}

// Has something done when the signal comes, or at once if it has come.
export function onAbort(signal, step) {
  if (signal.aborted) step();
  else (signal[INNER].steps ??= new Set()).add(step);
}

export function offAbort(signal, step) {
  signal[INNER].steps?.delete(step);
}

export class AbortController {
  constructor() {
    this[INNER] = { signal: new AbortSignal(KEY) };
  }

  get signal() {
    return this[INNER].signal;
  }

  abort(reason = undefined) {
    abort(this[INNER].signal, reason);
  }
}
shape(AbortController, 'AbortController');
