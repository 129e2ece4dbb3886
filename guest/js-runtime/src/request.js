// Request as the Fetch standard has it. One that came in asks the host for its parts when somebody looks at them.

import { AbortController, AbortSignal } from './abort.js';
import { extract, mixin, shareBody, takeBody, UNSEEN } from './body.js';
import { has, headersOf, listOf, listOfHeaders } from './fields.js';
import { HostBody } from './host-body.js';
import { serialized } from './url.js';
import { consumeRequest, headersOfRequest, method as methodOf, url as urlOf } from './wasi.js';

const NORMALIZED = new Set(['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT']);
const REFUSED = new Set(['CONNECT', 'TRACE', 'TRACK']);
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// What a call of the constructor from here gives in the place of a URL.
const INTERNAL = Symbol('internal');

const DEFAULTS = {
  cache: 'default',
  credentials: 'same-origin',
  destination: '',
  integrity: '',
  keepalive: false,
  mode: 'cors',
  redirect: 'follow',
  referrer: 'about:client',
  referrerPolicy: '',
  duplex: 'half',
};

function normalize(given) {
  const method = String(given);
  if (!TOKEN.test(method)) throw new TypeError(`"${method}" is no method`);
  const upper = method.toUpperCase();
  if (REFUSED.has(upper)) throw new TypeError(`requests with the method ${upper} cannot be made`);
  return NORMALIZED.has(upper) ? upper : method;
}

export class Request {
  constructor(input, init) {
    // The host's request while it is there.
    this._handle = 0;
    this._used = false;
    // Of a body that is a stream, where its length is known.
    this._length = undefined;
    this._headers = null;
    this._signal = null;
    this._options = DEFAULTS;
    if (input === INTERNAL) {
      this._handle = init;
      this._method = null;
      this._url = null;
      this._list = null;
      this._body = UNSEEN;
      return;
    }
    const from = input instanceof Request ? input : null;
    const given = init ?? {};
    const method = given.method !== undefined ? normalize(given.method) : from !== null ? from.method : 'GET';
    const bodiless = method === 'GET' || method === 'HEAD';
    const hasBody = given.body !== undefined && given.body !== null;
    if (hasBody && bodiless) throw new TypeError(`a request with the method ${method} has no body`);
    if (given.duplex !== undefined && given.duplex !== 'half') throw new TypeError('duplex is "half"');
    if (from !== null) {
      this._url = from.url;
      this._options = from._options;
    } else {
      const url = new URL(input);
      if (url.username !== '' || url.password !== '') throw new TypeError('a URL with credentials cannot be asked');
      this._url = url.href;
    }
    this._method = method;
    this._list = given.headers !== undefined ? listOf(given.headers) : from !== null ? listOfRequest(from).slice() : [];
    const signal = given.signal !== undefined ? given.signal : from === null ? null : from._signal;
    if (signal !== null && !(signal instanceof AbortSignal)) throw new TypeError('signal is no AbortSignal');
    this._signal = signal;
    for (const name of Object.keys(DEFAULTS)) {
      if (given[name] !== undefined) this._options = { ...this._options, [name]: given[name] };
    }
    if (hasBody) {
      const [body, type, length] = extract(given.body);
      this._body = body;
      this._length = length;
      if (type !== null && !has(this._list, 'content-type')) this._list.push('content-type', type);
    } else {
      this._body = from === null || given.body === null || bodiless ? null : takeBody(from);
      if (this._body !== null) this._length = from._length;
    }
  }

  // A request that came in has no body with these methods, whatever it says.
  _seen() {
    const { method } = this;
    return method === 'GET' || method === 'HEAD' ? null : new HostBody(() => consumeRequest(handleOf(this)));
  }

  get method() {
    return (this._method ??= methodOf(handleOf(this)));
  }

  get url() {
    return (this._url ??= serialized(urlOf(handleOf(this))));
  }

  get headers() {
    return (this._headers ??= headersOf(listOfRequest(this)));
  }

  get signal() {
    return (this._signal ??= new AbortController().signal);
  }

  clone() {
    const body = shareBody(this);
    const copy = new Request(this.url, { method: this.method, headers: this.headers, signal: this._signal ?? undefined });
    copy._body = body;
    copy._length = this._length;
    copy._options = this._options;
    return copy;
  }
}
mixin(Request, 'Request');
for (const name of Object.keys(DEFAULTS)) {
  Object.defineProperty(Request.prototype, name, {
    get() {
      return this._options[name];
    },
    enumerable: true,
    configurable: true,
  });
}

function handleOf(request) {
  if (request._handle === 0) throw new TypeError('the request is over');
  return request._handle;
}

// Of the host's request, which it does not take.
export const incoming = (handle) => new Request(INTERNAL, handle);

// The header fields as they stand now.
export function listOfRequest(request) {
  if (request._headers !== null) return listOfHeaders(request._headers);
  return (request._list ??= headersOfRequest(handleOf(request)));
}
