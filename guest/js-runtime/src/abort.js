// AbortController and AbortSignal (DOM, section 3). The engine's own keep no reason, and its time-outs would wait in a loop
// of their own, beside `loop.js`.

import { globals } from './loop.js';

const INTERNAL = Symbol('internal');
const TIMER_MAX_MS = 2 ** 31 - 1;

const aborted = () => new DOMException('the operation was aborted', 'AbortError');

export class AbortSignal extends EventTarget {
  constructor(key) {
    if (key !== INTERNAL) throw new TypeError('Illegal constructor');
    super();
    this._aborted = false;
    this._reason = undefined;
    this._listener = null;
  }

  get aborted() {
    return this._aborted;
  }

  get reason() {
    return this._reason;
  }

  get onabort() {
    return this._listener;
  }

  set onabort(listener) {
    if (this._listener !== null) this.removeEventListener('abort', this._listener);
    this._listener = typeof listener === 'function' ? listener : null;
    if (this._listener !== null) this.addEventListener('abort', this._listener);
  }

  throwIfAborted() {
    if (this._aborted) throw this._reason;
  }

  static abort(reason) {
    const signal = new AbortSignal(INTERNAL);
    abort(signal, reason);
    return signal;
  }

  static timeout(ms) {
    const most = Number(ms);
    if (!(most > -1 && most <= Number.MAX_SAFE_INTEGER)) throw new TypeError(`${ms} is no time-out: a number of milliseconds is`);
    const signal = new AbortSignal(INTERNAL);
    // No call lives as long as the longest timer, 24 days.
    globals.setTimeout(() => abort(signal, new DOMException('the time is over', 'TimeoutError')), Math.min(most, TIMER_MAX_MS));
    return signal;
  }

  static any(signals) {
    const signal = new AbortSignal(INTERNAL);
    for (const one of signals) {
      if (one.aborted) {
        abort(signal, one.reason);
        break;
      }
      one.addEventListener('abort', () => abort(signal, one.reason), { once: true });
    }
    return signal;
  }
}

function abort(signal, reason) {
  if (signal._aborted) return;
  signal._aborted = true;
  signal._reason = reason === undefined ? aborted() : reason;
  signal.dispatchEvent(new Event('abort'));
}

export class AbortController {
  constructor() {
    this._signal = new AbortSignal(INTERNAL);
  }

  get signal() {
    return this._signal;
  }

  abort(reason) {
    abort(this._signal, reason);
  }
}
