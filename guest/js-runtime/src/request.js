// Request as the Fetch standard has it. One that came in asks the host for its parts when somebody looks at them.

import { Body, extract } from './body.js';
import { has, headersOf, listOf, listOfHeaders } from './fields.js';
import { HostBody } from './host-body.js';
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

export class Request extends Body {
  // The host's request while it is there.
  #handle = 0;
  #method = null;
  #url = null;
  #list = null;
  #headers = null;
  #signal = null;
  #options = DEFAULTS;

  constructor(input, init) {
    if (input === INTERNAL) {
      super(new HostBody(() => consumeRequest(Request.#there(this))));
      this.#handle = init;
      return;
    }
    const from = input instanceof Request ? input : null;
    const given = init ?? {};
    const method = given.method !== undefined ? normalize(given.method) : from !== null ? from.method : 'GET';
    const hasBody = given.body !== undefined && given.body !== null;
    const bodiless = method === 'GET' || method === 'HEAD';
    if (hasBody && bodiless) throw new TypeError(`a request with the method ${method} has no body`);
    if (hasBody && given.body instanceof ReadableStream && given.duplex !== undefined && given.duplex !== 'half') {
      throw new TypeError('duplex is "half"');
    }
    const [own, type] = hasBody ? extract(given.body) : [null, null];
    const body = hasBody || from === null ? own : given.body === null || bodiless ? null : Body.take(from);
    super(body);
    this.#method = method;
    if (from !== null) {
      this.#url = from.url;
      this.#options = from.#options;
    } else {
      const url = new URL(input);
      if (url.username !== '' || url.password !== '') throw new TypeError('a URL with credentials cannot be asked');
      this.#url = url.href;
    }
    this.#list = given.headers !== undefined ? listOf(given.headers) : from !== null ? Request.list(from).slice() : [];
    if (type !== null && !has(this.#list, 'content-type')) this.#list.push('content-type', type);
    this.#signal = given.signal !== undefined ? given.signal : from === null ? null : from.#signal;
    if (this.#signal !== null && !(this.#signal instanceof AbortSignal)) throw new TypeError('signal is no AbortSignal');
    for (const name of Object.keys(DEFAULTS)) {
      if (given[name] !== undefined) this.#options = { ...this.#options, [name]: given[name] };
    }
  }

  static #there(request) {
    if (request.#handle === 0) throw new TypeError('the request is over');
    return request.#handle;
  }

  // Of the host's request, which it does not take.
  static incoming(handle) {
    return new Request(INTERNAL, handle);
  }

  // The host's request goes.
  static end(request) {
    request.#handle = 0;
  }

  get method() {
    return (this.#method ??= methodOf(Request.#there(this)));
  }

  get url() {
    return (this.#url ??= urlOf(Request.#there(this)));
  }

  get headers() {
    return (this.#headers ??= headersOf(Request.list(this)));
  }

  // The header fields as they stand now. Not a part of the standard.
  static list(request) {
    if (request.#headers !== null) return listOfHeaders(request.#headers);
    return (request.#list ??= headersOfRequest(Request.#there(request)));
  }

  get signal() {
    return (this.#signal ??= new AbortController().signal);
  }

  // A request that came in has no body with these methods, whatever it says.
  get body() {
    return this.#bodiless ? null : super.body;
  }

  get bodyUsed() {
    return this.#bodiless ? false : super.bodyUsed;
  }

  get #bodiless() {
    return this.#handle !== 0 && (this.method === 'GET' || this.method === 'HEAD');
  }

  get cache() {
    return this.#options.cache;
  }

  get credentials() {
    return this.#options.credentials;
  }

  get destination() {
    return this.#options.destination;
  }

  get duplex() {
    return this.#options.duplex;
  }

  get integrity() {
    return this.#options.integrity;
  }

  get keepalive() {
    return this.#options.keepalive;
  }

  get mode() {
    return this.#options.mode;
  }

  get redirect() {
    return this.#options.redirect;
  }

  get referrer() {
    return this.#options.referrer;
  }

  get referrerPolicy() {
    return this.#options.referrerPolicy;
  }

  clone() {
    const body = this.#bodiless ? null : Body.share(this);
    const copy = new Request(this.url, { method: this.method, headers: this.headers, signal: this.#signal ?? undefined });
    Body.give(copy, body);
    copy.#options = this.#options;
    return copy;
  }
}

Object.defineProperty(Request.prototype, Symbol.toStringTag, { value: 'Request', configurable: true });
