// Response as the Fetch standard has it, built for answering: status, a list of header fields, and a body as it was given.

import { Body, extract } from './body.js';
import { has, headersOf, listOf, listOfHeaders } from './fields.js';

const NULL_BODY = new Set([101, 103, 204, 205, 304]);
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const REASON = /^[\t\x20-\x7e\x80-\xff]*$/;
// What a call of the constructor from here gives in the place of a body.
const INTERNAL = Symbol('internal');

export class Response extends Body {
  #status = 200;
  #statusText = '';
  #list;
  #headers = null;
  #type = 'default';
  #url = '';
  #redirected = false;

  constructor(body, init) {
    if (body === INTERNAL) {
      super(init.body);
      this.#status = init.status;
      this.#statusText = init.statusText ?? '';
      this.#list = init.list;
      this.#type = init.type;
      this.#url = init.url ?? '';
      this.#redirected = init.redirected ?? false;
      return;
    }
    const [kind, type] = typeof body === 'string' ? [body, 'text/plain;charset=UTF-8'] : extract(body);
    super(kind);
    if (init === undefined || init === null) {
      this.#list = type === null ? [] : ['content-type', type];
      return;
    }
    if (init.status !== undefined) {
      const status = Number(init.status);
      if (!(status >= 200 && status <= 599)) throw new RangeError(`${init.status} is no status of a response`);
      this.#status = Math.trunc(status);
    }
    if (init.statusText !== undefined) {
      this.#statusText = String(init.statusText);
      if (!REASON.test(this.#statusText)) throw new TypeError('the status text has characters that are not allowed');
    }
    const list = listOf(init.headers);
    if (kind !== null) {
      if (NULL_BODY.has(this.#status)) throw new TypeError(`a response of status ${this.#status} has no body`);
      if (type !== null && !has(list, 'content-type')) list.push('content-type', type);
    }
    this.#list = list;
  }

  get status() {
    return this.#status;
  }

  get statusText() {
    return this.#statusText;
  }

  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }

  get headers() {
    return (this.#headers ??= headersOf(this.#list));
  }

  get type() {
    return this.#type;
  }

  get url() {
    return this.#url;
  }

  get redirected() {
    return this.#redirected;
  }

  clone() {
    return new Response(INTERNAL, {
      body: Body.share(this),
      status: this.#status,
      statusText: this.#statusText,
      list: Response.list(this).slice(),
      type: this.#type,
      url: this.#url,
      redirected: this.#redirected,
    });
  }

  // The header fields as they stand now, for sending. Not a part of the standard.
  static list(response) {
    return response.#headers === null ? response.#list : listOfHeaders(response.#headers);
  }

  static error() {
    return new Response(INTERNAL, { body: null, status: 0, list: [], type: 'error' });
  }

  static json(data, init) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('the data has no form in JSON');
    const response = new Response(text, init);
    if (init?.headers === undefined || !has(listOf(init.headers), 'content-type')) {
      response.#list = response.#list.filter((_, index, all) => all[index & ~1] !== 'content-type');
      response.#list.push('content-type', 'application/json');
    }
    return response;
  }

  static redirect(url, status = 302) {
    const target = new URL(url).href;
    if (!REDIRECTS.has(status)) throw new RangeError(`${status} is no status of a redirect`);
    return new Response(INTERNAL, { body: null, status, list: ['location', target], type: 'default' });
  }
}

// A response of a server that was asked.
export const received = (init) => new Response(INTERNAL, { ...init, type: 'basic' });

Object.defineProperty(Response.prototype, Symbol.toStringTag, { value: 'Response', configurable: true });
