// Response as the Fetch standard has it, built for answering: status, a list of header fields, and a body as it was given.

import { extract, mixin, shareBody } from './body.js';
import { has, headersOf, immutableHeadersOf, listOf, listOfHeaders } from './fields.js';
import { INNER, shape } from './shape.js';
import { plainTextList } from './wasi.js';

const NULL_BODY = new Set([101, 103, 204, 205, 304]);
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const REASON = /^[\t\x20-\x7e\x80-\xff]*$/;
const PLAIN = { statusText: '', type: 'default', url: '', redirected: false };

export class Response {
  constructor(body, init) {
    // There may be more: `headers`, `used` (the body), `length` of one that is a stream, where it is known, and in `more` what few responses have: reason, type, URL.
    const inner = { body, status: 200, list: null };
    this[INNER] = inner;
    let type = null;
    if (typeof body === 'string') {
      if (init === undefined) {
        inner.list = plainTextList;
        return;
      }
      [, type] = plainTextList;
    } else {
      let length;
      [inner.body, type, length] = extract(body);
      if (length !== undefined) inner.length = length;
    }
    if (init === undefined || init === null) {
      inner.list = type === null ? [] : ['content-type', type];
      return;
    }
    if (typeof init !== 'object' && typeof init !== 'function') throw new TypeError('what a response is made with is an object');
    const { status, statusText } = init;
    if (status !== undefined && status !== 200) {
      const number = Math.trunc(Number(status));
      if (!(number >= 200 && number <= 599)) throw new RangeError(`${status} is no status of a response`);
      if (inner.body !== null && NULL_BODY.has(number)) throw new TypeError(`a response of status ${number} has no body`);
      inner.status = number;
    }
    if (statusText !== undefined && statusText !== '') {
      const text = `${statusText}`;
      if (!REASON.test(text)) throw new TypeError('the status text has characters that are not allowed');
      inner.more = { ...PLAIN, statusText: text };
    }
    // Those of another response need not be made for this.
    const isOther = init instanceof Response && Object.getPrototypeOf(init) === Response.prototype;
    inner.list = isOther ? listOfResponse(init[INNER]).slice() : listOf(init.headers);
    if (type !== null && !has(inner.list, 'content-type')) inner.list.push('content-type', type);
  }

  get status() {
    return this[INNER].status;
  }

  get statusText() {
    return (this[INNER].more ?? PLAIN).statusText;
  }

  get ok() {
    const { status } = this[INNER];
    return status >= 200 && status <= 299;
  }

  get headers() {
    const inner = this[INNER];
    return (inner.headers ??= (inner.more?.isFixed ? immutableHeadersOf : headersOf)(inner.list));
  }

  get type() {
    return (this[INNER].more ?? PLAIN).type;
  }

  get url() {
    return (this[INNER].more ?? PLAIN).url.replace(/#[^]*$/, '');
  }

  get redirected() {
    return (this[INNER].more ?? PLAIN).redirected;
  }

  clone() {
    const inner = this[INNER];
    return made(inner.status, listOfResponse(inner).slice(), shareBody(inner), inner.more);
  }

  static error() {
    return made(0, [], null, { ...PLAIN, type: 'error', isFixed: true });
  }

  static json(data, init = undefined) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('the data has no form in JSON');
    const response = new Response(null, init);
    const inner = response[INNER];
    if (NULL_BODY.has(inner.status)) throw new TypeError(`a response of status ${inner.status} has no body`);
    inner.body = text;
    if (!has(inner.list, 'content-type')) inner.list.push('content-type', 'application/json');
    return response;
  }

  static redirect(url, status = 302) {
    const target = new URL(url).href;
    if (!REDIRECTS.has(status)) throw new RangeError(`${status} is no status of a redirect`);
    return made(status, ['location', target], null, { ...PLAIN, isFixed: true });
  }
}
mixin(Response);
shape(Response, 'Response');

// A response of which everything is known to be right. With `isFixed` in `more`, nobody may change its headers.
function made(status, list, body, more) {
  const response = new Response();
  const inner = response[INNER];
  inner.status = status;
  inner.list = list;
  inner.body = body;
  inner.more = more;
  return response;
}

// The header fields as they stand now, for sending.
export const listOfResponse = (inner) => (inner.headers === undefined ? inner.list : listOfHeaders(inner.headers));

// What a server answered that was asked.
export const received = ({ status, statusText = '', list, body, url, redirected }) =>
  made(status, list, body, { statusText, type: 'basic', url, redirected, isFixed: true });
