// URL in front of the engine's. Of what most URLs are, plain absolute ones with no parts to be written in another way, the
// parts are cut out when somebody asks: making one of the engine's costs as much as the half of a short request. All
// others, and those that are written to, are the engine's.

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
    this._native = null;
    this._href = '';
    this._origin = null;
    // Where the path begins.
    this._path = 0;
    if (base === undefined) {
      const href = typeof url === 'string' ? url : `${url}`;
      const at = href.indexOf('/', 8);
      const origin = originOfPlain(href, at);
      if (origin !== null) {
        this._href = href;
        this._origin = origin;
        this._path = at;
        return;
      }
      this._native = new Native(href);
    } else {
      this._native = new Native(`${url}`, `${base}`);
    }
  }

  get pathname() {
    if (this._native !== null) return this._native.pathname;
    const query = this._href.indexOf('?', this._path);
    return query < 0 ? this._href.slice(this._path) : this._href.slice(this._path, query);
  }

  set pathname(value) {
    nativeOf(this).pathname = value;
  }

  get search() {
    if (this._native !== null) return this._native.search;
    const query = this._href.indexOf('?', this._path);
    return query < 0 || query === this._href.length - 1 ? '' : this._href.slice(query);
  }

  set search(value) {
    nativeOf(this).search = value;
  }

  // It writes through to the URL that it is of.
  get searchParams() {
    return nativeOf(this).searchParams;
  }

  get href() {
    return this._native === null ? this._href : this._native.href;
  }

  set href(value) {
    nativeOf(this).href = value;
  }

  get origin() {
    return (this._native ?? this._origin).origin;
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
  }

  static parse(url, base) {
    try {
      return new URL(url, base);
    } catch {
      return null;
    }
  }

  static canParse(url, base) {
    return URL.parse(url, base) !== null;
  }
}

function nativeOf(url) {
  return (url._native ??= new Native(url._href));
}

// The parts of the origin, and those that a plain URL does not have.
for (const name of ['protocol', 'host', 'hostname', 'port', 'hash', 'username', 'password']) {
  const isOfOrigin = ['protocol', 'host', 'hostname', 'port'].includes(name);
  Object.defineProperty(URL.prototype, name, {
    get: isOfOrigin
      ? function () {
          return (this._native ?? this._origin)[name];
        }
      : function () {
          return this._native === null ? '' : this._native[name];
        },
    set(value) {
      nativeOf(this)[name] = value;
    },
    enumerable: true,
    configurable: true,
  });
}
Object.defineProperty(URL, 'name', { value: 'URL', configurable: true });
Object.defineProperty(URL.prototype, Symbol.toStringTag, { value: 'URL', configurable: true });
for (const name of ['createObjectURL', 'revokeObjectURL']) {
  if (typeof Native[name] === 'function') Object.defineProperty(URL, name, { value: Native[name], configurable: true });
}
