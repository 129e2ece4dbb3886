// URL in front of the engine's. Of what most URLs are, plain absolute ones with no parts to be written in another way, the
// parts are cut out when somebody asks: making one of the engine's costs as much as the half of a short request. All
// others, and those that are written to, are the engine's.

import { createObjectURL, revokeObjectURL } from './blob.js';
import { INNER, shape } from './shape.js';

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
      const { href, protocol, host, hostname, port, origin } = new Native(`${text}/`);
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
    return new Native(url).href;
  } catch {
    return url;
  }
}

export class URL {
  constructor(url, base) {
    if (arguments.length === 0) throw new TypeError('URL needs a text');
    // Either the engine's URL, or a text with its origin and the place where the path begins.
    if (base !== undefined) {
      this[INNER] = { native: new Native(`${url}`, `${base}`) };
      return;
    }
    const href = typeof url === 'string' ? url : `${url}`;
    const path = href.indexOf('/', 8);
    const origin = originOfPlain(href, path);
    this[INNER] = origin === null ? { native: new Native(href) } : { native: null, href, origin, path };
  }

  get pathname() {
    const inner = this[INNER];
    if (inner.native !== null) return inner.native.pathname;
    const { href, path } = inner;
    const query = href.indexOf('?', path);
    return query < 0 ? href.slice(path) : href.slice(path, query);
  }

  set pathname(value) {
    nativeOf(this).pathname = value;
  }

  get search() {
    const inner = this[INNER];
    if (inner.native !== null) return inner.native.search;
    const { href, path } = inner;
    const query = href.indexOf('?', path);
    return query < 0 || query === href.length - 1 ? '' : href.slice(query);
  }

  set search(value) {
    nativeOf(this).search = value;
  }

  // It writes through to the URL that it is of.
  get searchParams() {
    return nativeOf(this).searchParams;
  }

  get href() {
    const { native, href } = this[INNER];
    return native === null ? href : native.href;
  }

  // The engine resolves it against the URL as it is.
  set href(value) {
    nativeOf(this).href = new Native(`${value}`).href;
  }

  get origin() {
    const { native, origin } = this[INNER];
    return (native ?? origin).origin;
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
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

function nativeOf(url) {
  const inner = url[INNER];
  return (inner.native ??= new Native(inner.href));
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
      nativeOf(this)[name] = value;
    },
  };
  Object.defineProperty(URL.prototype, name, Object.getOwnPropertyDescriptor(members, name));
}
shape(URL, 'URL', 1);
