// Request as the Fetch standard has it. One that came in asks the host for its parts when somebody looks at them.

import { AbortController, AbortSignal } from './abort.js';
import { blobOf } from './blob.js';
import { extract, mixin, passBody, shareBody, UNSEEN } from './body.js';
import { has, headersOf, listOf, listOfHeaders } from './fields.js';
import { HostBody } from './host-body.js';
import { DEFAULTS, optionsOf } from './request-options.js';
import { attributes, INNER, shape } from './shape.js';
import { serialized } from './url.js';
import { consumeRequest, headOf } from './wasi.js';

const NORMALIZED = new Set(['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT']);
const REFUSED = new Set(['CONNECT', 'TRACE', 'TRACK']);
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// What a call of the constructor from here gives in the place of a URL.
const INTERNAL = Symbol('internal');

function normalize(given) {
  const method = `${given}`;
  if (!TOKEN.test(method)) throw new TypeError(`"${method}" is no method`);
  const upper = method.toUpperCase();
  if (REFUSED.has(upper)) throw new TypeError(`requests with the method ${upper} cannot be made`);
  return NORMALIZED.has(upper) ? upper : method;
}

// The body of a request that came in. It has none with these methods, whatever it says.
function seen(inner) {
  const method = methodOfRequest(inner);
  return method === 'GET' || method === 'HEAD' ? null : new HostBody(() => consumeRequest(handleOf(inner)));
}

// What is known of a request: at first only these, of one that came in. Later, or of one that is made, there may be:
//
// method, url, list (of header fields), headers, signal, and options, if they are not the defaults
// head    what the host has said, all in one
// used    whether the body was
// length  of a body that is a stream, where it is known
// blob    what a blob: URL stood for when the request was made
const known = (handle, body) => ({ handle, body, seen });

export class Request {
  constructor(input, init) {
    if (input === INTERNAL) {
      this[INNER] = known(init, UNSEEN);
      return;
    }
    if (arguments.length === 0) throw new TypeError('Request needs a URL or a Request');
    const inner = known(0, null);
    const from = input instanceof Request ? input[INNER] : null;
    const given = init ?? {};
    if (typeof given !== 'object' && typeof given !== 'function') throw new TypeError('what a request is made with is an object');
    inner.options = optionsOf(from?.options ?? DEFAULTS, given);
    const method = given.method !== undefined ? normalize(given.method) : from !== null ? methodOfRequest(from) : 'GET';
    const bodiless = method === 'GET' || method === 'HEAD';
    const hasBody = given.body !== undefined && given.body !== null;
    if (inner.options.mode === 'no-cors' && !['GET', 'HEAD', 'POST'].includes(method)) {
      throw new TypeError(`a request with the mode "no-cors" cannot have the method ${method}`);
    }
    // Of one that came in, it is not known here whether its body is empty.
    const isKnownToHave = hasBody || (given.body === undefined && from !== null && hasKnownBody(from));
    if (isKnownToHave && bodiless) throw new TypeError(`a request with the method ${method} has no body`);
    if (from !== null) {
      inner.url = urlOfRequest(from);
      inner.blob = from.blob;
    } else {
      const url = new URL(input);
      if (url.username !== '' || url.password !== '') throw new TypeError('a URL with credentials cannot be asked');
      inner.url = url.href;
      if (url.protocol === 'blob:') inner.blob = blobOf(inner.url);
    }
    inner.method = method;
    inner.list = given.headers !== undefined ? listOf(given.headers) : from !== null ? listOfRequest(from).slice() : [];
    inner.signal = given.signal !== undefined ? given.signal : from?.signal ?? null;
    if (inner.signal !== null && !(inner.signal instanceof AbortSignal)) throw new TypeError('signal is no AbortSignal');
    if (hasBody) {
      const [body, type, length] = extract(given.body);
      if (inner.options.keepalive && body instanceof ReadableStream && length === undefined) {
        throw new TypeError('a request with keepalive cannot have a stream as body');
      }
      inner.body = body;
      inner.length = length;
      if (type !== null && !has(inner.list, 'content-type')) inner.list.push('content-type', type);
    } else {
      inner.body = from === null || given.body === null || bodiless ? null : passBody(from);
      if (inner.body !== null) inner.length = from.length;
    }
    this[INNER] = inner;
  }

  get method() {
    return methodOfRequest(this[INNER]);
  }

  get url() {
    return urlOfRequest(this[INNER]);
  }

  get headers() {
    const inner = this[INNER];
    return (inner.headers ??= headersOf(listOfRequest(inner)));
  }

  get signal() {
    return (this[INNER].signal ??= new AbortController().signal);
  }

  clone() {
    const inner = this[INNER];
    const body = shareBody(inner);
    const copy = new Request(INTERNAL, 0);
    copy[INNER] = {
      ...inner,
      handle: 0,
      method: methodOfRequest(inner),
      url: urlOfRequest(inner),
      list: listOfRequest(inner).slice(),
      headers: undefined,
      body,
      signal: inner.signal ? AbortSignal.any([inner.signal]) : null,
    };
    return copy;
  }
}
mixin(Request);
attributes(Request, Object.keys(DEFAULTS), (inner) => inner.options ?? DEFAULTS);
shape(Request, 'Request', 1);

function handleOf(inner) {
  if (!(inner.handle > 0)) throw new TypeError('the request is over');
  return inner.handle;
}

// Asks the host for all at once; the header fields are cut out when somebody looks at them.
function readHead(inner) {
  const head = headOf(handleOf(inner));
  const [method, url] = head.split('\n', 2);
  inner.method = method;
  inner.url = serialized(url);
  inner.head = head;
  return inner;
}

const methodOfRequest = (inner) => inner.method ?? readHead(inner).method;

const urlOfRequest = (inner) => inner.url ?? readHead(inner).url;

const hasKnownBody = ({ body }) => body !== null && body !== UNSEEN && !(body instanceof HostBody);

// Of the host's request, which it does not take.
export const incoming = (handle) => new Request(INTERNAL, handle);

// The header fields as they stand now.
export function listOfRequest(inner) {
  if (inner.headers !== undefined) return listOfHeaders(inner.headers);
  if (inner.list !== undefined) return inner.list;
  const { head } = inner.head === undefined ? readHead(inner) : inner;
  return (inner.list = head.split('\n').slice(2));
}
