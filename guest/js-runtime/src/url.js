// URL in front of the engine's. Of what most URLs are, plain absolute ones with no parts to be written in another way, the
// parts are cut out when somebody asks: making one of the engine's costs as much as the half of a short request. All
// others, and those that are written to, are what `url-parser.js` makes.

import { createObjectURL, revokeObjectURL } from './blob.js';
import { INNER, shape } from './shape.js';
import { assign, parse } from './url-parser.js';

const Native = globalThis.URL;

// Origins that the engine's parser leaves as they are, with their parts; null for others. Bounded, since clients name them.
const KNOWN_MAX = 64;
const KNOWN_LENGTH_MAX = 128;
const origins = new Map();
// Path and query in which nothing is encoded or resolved (URL, "path percent-encode set", "special-query percent-encode
// set"): no dot at the beginning of a segment, no percent sign in the path.
const PLAIN = /^\/(?!\.)(?:[\w~!$&'()*+,;=:@.-]|\/(?!\.))*(?:\?[\w~!$&()*+,;=:@%.\/?-]*)?$/;

function originOf(text) {
  const known = origins.get(text);
  if (known !== undefined || text.length > KNOWN_LENGTH_MAX) return known ?? null;
  let found = null;
  if (/^https?:\/\/[^\\?#@]+$/.test(text)) {
    try {
      const { href, protocol, host, hostname, port, origin } = parse(`${text}/`);
      if (href === `${text}/`) found = { protocol, host, hostname, port, origin };
    } catch {
      // Not a URL at all, which the engine will say when it is asked.
    }
  }
  if (origins.size === KNOWN_MAX) origins.clear();
  origins.set(text, found);
  return found;
}

// The last text that was found to be plain: of a request, its URL is asked for and made into a URL right afterwards.
let lastPlain = '';

// The origin of a URL that is written as the standard serializes it, whose path begins at `at`; null for others.
function originOfPlain(href, at) {
  if (at <= 0) return null;
  const origin = originOf(href.slice(0, at));
  if (origin === null || href === lastPlain) return origin;
  if (!PLAIN.test(href.slice(at))) return null;
  lastPlain = href;
  return origin;
}

// A URL as the standard serializes it (URL, section "URL serializing"); as it is, where it is none.
export function serialized(url) {
  if (originOfPlain(url, url.indexOf('/', 8)) !== null) return url;
  try {
    return parse(url).href;
  } catch {
    return url;
  }
}

export class URL {
  constructor(url, base) {
    if (arguments.length === 0) throw new TypeError('URL needs a text');
    // Either a parsed URL, or a text with its origin and the place where the path begins.
    if (base !== undefined) {
      this[INNER] = { native: parse(`${url}`, `${base}`) };
      return;
    }
    const href = typeof url === 'string' ? url : `${url}`;
    const path = href.indexOf('/', 8);
    const origin = originOfPlain(href, path);
    this[INNER] = origin === null ? { native: parse(href) } : { native: null, href, origin, path };
  }

  get pathname() {
    const inner = this[INNER];
    if (inner.native !== null) return inner.native.pathname;
    const { href, path } = inner;
    const query = href.indexOf('?', path);
    return query < 0 ? href.slice(path) : href.slice(path, query);
  }

  set pathname(value) {
    setPart(this, 'pathname', value);
  }

  get search() {
    const inner = this[INNER];
    if (inner.native !== null) return inner.native.search;
    const { href, path } = inner;
    const query = href.indexOf('?', path);
    return query < 0 || query === href.length - 1 ? '' : href.slice(query);
  }

  set search(value) {
    setPart(this, 'search', value);
  }

  // It writes through to the URL that it is of.
  get searchParams() {
    return nativeOf(this).searchParams;
  }

  get href() {
    return hrefOf(this);
  }

  set href(value) {
    setPart(this, 'href', value);
  }

  get origin() {
    const { native, origin } = this[INNER];
    return native?.protocol === 'blob:' ? originOfBlob(native) : (native ?? origin).origin;
  }

  toString() {
    return hrefOf(this);
  }

  toJSON() {
    return hrefOf(this);
  }

  static parse(url, base = undefined) {
    if (arguments.length === 0) throw new TypeError('URL.parse needs a text');
    try {
      return new URL(url, base);
    } catch {
      return null;
    }
  }

  static canParse(url, base = undefined) {
    if (arguments.length === 0) throw new TypeError('URL.canParse needs a text');
    return URL.parse(url, base) !== null;
  }

  static createObjectURL(blob) {
    return createObjectURL(blob);
  }

  static revokeObjectURL(url) {
    revokeObjectURL(url);
  }
}

// That of the URL within it (URL, "origin").
function originOfBlob({ pathname }) {
  const url = URL.parse(pathname);
  return url?.protocol === 'http:' || url?.protocol === 'https:' ? url.origin : 'null';
}

function hrefOf(url) {
  const { native, href } = url[INNER];
  return native === null ? href : native.href;
}

function nativeOf(url) {
  const inner = url[INNER];
  return (inner.native ??= new Native(inner.href));
}

function setPart(url, name, value) {
  url[INNER].native = assign(nativeOf(url), name, `${value}`);
}

// The parts of the origin, and those that a plain URL does not have.
for (const name of ['protocol', 'host', 'hostname', 'port', 'hash', 'username', 'password']) {
  const isOfOrigin = ['protocol', 'host', 'hostname', 'port'].includes(name);
  const members = {
    get [name]() {
      const { native, origin } = this[INNER];
      if (native !== null) return native[name];
      return isOfOrigin ? origin[name] : '';
    },

    set [name](value) {
      setPart(this, name, value);
    },
  };
  Object.defineProperty(URL.prototype, name, Object.getOwnPropertyDescriptor(members, name));
}
shape(URL, 'URL', 1);
