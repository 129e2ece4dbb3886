// Response as the Fetch standard has it, built for answering: status, a list of header fields, and a body as it was given.

import { extract, mixin, shareBody } from './body.js';
import { has, headersOf, listOf, listOfHeaders } from './fields.js';

const NULL_BODY = new Set([101, 103, 204, 205, 304]);
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const REASON = /^[\t\x20-\x7e\x80-\xff]*$/;
const PLAIN = { statusText: '', type: 'default', url: '', redirected: false };

const TEXT = 'text/plain;charset=UTF-8';

export class Response {
  constructor(body, init) {
    this._used = false;
    this._headers = null;
    this._status = 200;
    // What few responses have: reason, type, URL.
    this._more = null;
    let type = TEXT;
    if (typeof body === 'string') this._body = body;
    else [this._body, type] = extract(body);
    if (init === undefined || init === null) {
      this._list = type === null ? [] : ['content-type', type];
      return;
    }
    const { status, statusText, headers } = init;
    if (status !== undefined && status !== 200) {
      const number = Math.trunc(Number(status));
      if (!(number >= 200 && number <= 599)) throw new RangeError(`${status} is no status of a response`);
      if (this._body !== null && NULL_BODY.has(number)) throw new TypeError(`a response of status ${number} has no body`);
      this._status = number;
    }
    if (statusText !== undefined && statusText !== '') {
      const text = String(statusText);
      if (!REASON.test(text)) throw new TypeError('the status text has characters that are not allowed');
      this._more = { ...PLAIN, statusText: text };
    }
    this._list = listOf(headers);
    if (type !== null && !has(this._list, 'content-type')) this._list.push('content-type', type);
  }

  get status() {
    return this._status;
  }

  get statusText() {
    return (this._more ?? PLAIN).statusText;
  }

  get ok() {
    return this._status >= 200 && this._status <= 299;
  }

  get headers() {
    return (this._headers ??= headersOf(this._list));
  }

  get type() {
    return (this._more ?? PLAIN).type;
  }

  get url() {
    return (this._more ?? PLAIN).url;
  }

  get redirected() {
    return (this._more ?? PLAIN).redirected;
  }

  clone() {
    return made(this._status, listOfResponse(this).slice(), shareBody(this), this._more);
  }

  static error() {
    return made(0, [], null, { ...PLAIN, type: 'error' });
  }

  static json(data, init) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('the data has no form in JSON');
    const response = new Response(null, init);
    if (NULL_BODY.has(response._status)) throw new TypeError(`a response of status ${response._status} has no body`);
    response._body = text;
    if (!has(response._list, 'content-type')) response._list.push('content-type', 'application/json');
    return response;
  }

  static redirect(url, status = 302) {
    const target = new URL(url).href;
    if (!REDIRECTS.has(status)) throw new RangeError(`${status} is no status of a redirect`);
    return made(status, ['location', target], null, null);
  }
}
mixin(Response, 'Response');

// A response of which everything is known to be right.
function made(status, list, body, more) {
  const response = new Response();
  response._status = status;
  response._list = list;
  response._body = body;
  response._more = more;
  return response;
}

// The header fields as they stand now, for sending.
export const listOfResponse = (response) =>
  response._headers === null ? response._list : listOfHeaders(response._headers);

// What a server answered that was asked.
export const received = ({ status, list, body, url, redirected }) =>
  made(status, list, body, { statusText: '', type: 'basic', url, redirected });
