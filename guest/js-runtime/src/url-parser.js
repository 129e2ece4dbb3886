// What parses URLs: the engine's parser, put right where it is older than the standard of today. It drops hosts and empty segments
// of `file:`, takes a letter with a colon for a drive in all schemes, drops spaces at the end of an opaque path, leaves `^` in paths
// as it is, and loses the `/.` before a path with `//` when parts are set.

const Native = globalThis.URL;

const SPECIAL = /^(?:https?|wss?|ftp):/i;
const SCHEME = /^[a-z][a-z\d+.-]*(?=:)/i;
// A letter with a colon or a bar, as a whole segment.
const DRIVE = /^[a-z][:|]$/i;
const STARTS_WITH_DRIVE = /^[a-z][:|](?:[/\\?#]|$)/i;
const PARTS = /^([a-z][a-z\d+.-]*:)?(\/\/[^/?#]*)?([^?#]*)/i;
const SPECIAL_PARTS = /^([a-z][a-z\d+.-]*:)?([/\\]{2,}[^/\\?#]*)?([^?#]*)/i;
const LIKE_DRIVE = /[/\\][a-z][:|](?:[/\\?#]|$)/i;
const DOT = /^(?:\.|%2e)$/i;
const DOUBLE_DOT = /^(?:\.|%2e){2}$/i;
// An opaque path whose last character is a space, with a query or a fragment behind it.
const OPAQUE_WITH_SPACE = /^([a-z][a-z\d+.-]*:[^/?#][^?#]*) (?=[?#])/i;

const withoutBreaks = (text) => text.replace(/[\t\n\r]+/g, '');
const encodedCarets = (text) => text.replaceAll('^', '%5E');

// Without what stands around a URL and is no part of it.
function cleaned(given) {
  let [from, to] = [0, given.length];
  while (from < to && given.charCodeAt(from) <= 32) from += 1;
  while (from < to && given.charCodeAt(to - 1) <= 32) to -= 1;
  return withoutBreaks(given.slice(from, to));
}

// The host of a special URL, serialized. The engine throws for what is none.
function hostOf(text) {
  const open = text.indexOf('[');
  const close = text.indexOf(']', open);
  const outside = open < 0 || close < 0 ? text : text.slice(0, open) + text.slice(close + 1);
  if (text === '' || /[@:]/.test(outside)) throw new TypeError(`"${text}" is no host`);
  return new Native(`http://${text}/`).hostname;
}

const fileHostOf = (text) => {
  const host = text === '' ? '' : hostOf(text);
  return host === 'localhost' ? '' : host;
};

// The segments that a path leads to from others (URL, "path state", "shorten"). A drive of `file:` stays.
function segmentsFrom(before, path, isFile = true, separator = /[/\\]/) {
  const segments = [...before];
  const parts = path.split(separator);
  parts.forEach((part, index) => {
    const isLast = index === parts.length - 1;
    if (DOUBLE_DOT.test(part)) {
      if (!(isFile && segments.length === 1 && DRIVE.test(segments[0]))) segments.pop();
      if (isLast) segments.push('');
    } else if (DOT.test(part)) {
      if (isLast) segments.push('');
    } else {
      segments.push(isFile && segments.length === 0 && DRIVE.test(part) ? `${part[0]}:` : part);
    }
  });
  return segments;
}

// A URL of `file:`. Its path, query and fragment are those of a URL of `http:`, in which the engine's parser encodes what it should.
class FileUrl {
  constructor(host, segments, rest) {
    this.hostname = host;
    this.carrier = new Native(`http://file/${encodedCarets(segments.join('/'))}${rest}`);
  }

  // Of what follows the scheme, or stands alone with a base.
  static parse(text, base = null) {
    const [, path, rest] = /^([^?#]*)([^]*)$/.exec(text);
    const [, authority, behind] = /^[/\\]{2}([^/\\]*)([^]*)$/.exec(path) ?? [];
    if (authority !== undefined) {
      if (DRIVE.test(authority)) return new FileUrl('', segmentsFrom([], `${authority}${behind}`), rest);
      return new FileUrl(fileHostOf(authority), segmentsFrom([], behind.slice(1)), rest);
    }
    const { hostname: host, segments: before, query } = base ?? { hostname: '', segments: [], query: '' };
    const hasDrive = DRIVE.test(before[0] ?? '');
    if (/^[/\\]/.test(path)) {
      const keepsDrive = hasDrive && !STARTS_WITH_DRIVE.test(path.slice(1));
      return new FileUrl(host, segmentsFrom(keepsDrive ? before.slice(0, 1) : [], path.slice(1)), rest);
    }
    if (path === '' && base !== null) return new FileUrl(host, before, rest.startsWith('?') ? rest : `${query}${rest}`);
    if (STARTS_WITH_DRIVE.test(text)) return new FileUrl(host, segmentsFrom([], path), rest);
    return new FileUrl(host, segmentsFrom(hasDrive && before.length === 1 ? before : before.slice(0, -1), path), rest);
  }

  get segments() {
    return this.pathname.slice(1).split('/');
  }

  // The query and the fragment, also where they are empty.
  get tail() {
    return this.carrier.href.slice(this.carrier.origin.length + this.pathname.length);
  }

  get query() {
    return this.tail.replace(/#[^]*$/, '');
  }

  get href() {
    return `file://${this.hostname}${this.pathname}${this.tail}`;
  }

  get host() {
    return this.hostname;
  }

  get pathname() {
    return this.carrier.pathname;
  }

  get search() {
    return this.carrier.search;
  }

  get hash() {
    return this.carrier.hash;
  }

  get searchParams() {
    return this.carrier.searchParams;
  }

  assign(name, value) {
    if (name === 'search' || name === 'hash') {
      this.carrier[name] = value;
    } else if (name === 'pathname') {
      const path = withoutBreaks(value);
      const segments = segmentsFrom([], /^[/\\]/.test(path) ? path.slice(1) : path);
      this.carrier.pathname = `/${encodedCarets(segments.join('/'))}`;
    } else if (name === 'host' || name === 'hostname') {
      try {
        this.hostname = fileHostOf(/^[^/\\?#]*/.exec(withoutBreaks(value))[0]);
      } catch {
        // It stays as it is.
      }
    } else if (name === 'protocol' && this.hostname !== '' && SPECIAL.test(`${value}:`)) {
      this.carrier.hostname = this.hostname;
      this.carrier.protocol = value;
      return this.carrier;
    }
    return this;
  }
}
Object.assign(FileUrl.prototype, { protocol: 'file:', origin: 'null', username: '', password: '', port: '' });

const carrierOf = (url) => (url instanceof FileUrl ? url.carrier : url);

const hasHost = ({ href, protocol }) => href.startsWith('//', protocol.length);
const isOpaque = (url) => !hasHost(url) && !url.pathname.startsWith('/');

// For a URL without a host and with a path of segments.
function assignWithoutHost(url, name, value) {
  const { protocol, pathname, search, hash } = url;
  const carrier = new Native(`${protocol}//h`);
  carrier[name] = encodedCarets(value);
  if (name !== 'pathname') {
    if (value === '' || carrier.host !== 'h' || value === 'h') {
      url.href = `${protocol}//${value === '' ? '' : carrier.host}${pathname}${search}${hash}`;
    }
    return;
  }
  const path = carrier.pathname || '/';
  url.href = `${protocol}${path.startsWith('//') ? '/.' : ''}${path}${search}${hash}`;
}

// Whoever has the parameters of the URL has them still.
function assignWhole(url, value) {
  const made = parse(value);
  const carrier = carrierOf(url);
  carrier.href = carrierOf(made).href;
  if (made === carrierOf(made)) return carrier;
  made.carrier = carrier;
  return made;
}

// Sets a part of a URL, and gives the URL, which may be another object then.
export function assign(url, name, value) {
  if (name === 'href') return assignWhole(url, value);
  if (url instanceof FileUrl) return url.assign(name, value);
  const isHostless = !SPECIAL.test(url.protocol) && !hasHost(url) && !isOpaque(url);
  if (name === 'pathname') {
    if (isHostless) assignWithoutHost(url, name, value);
    else if (value === '' && url.host === '' && !isOpaque(url)) url.href = `${url.protocol}//${url.search}${url.hash}`;
    else url.pathname = encodedCarets(value);
  } else if (isHostless && (name === 'host' || name === 'hostname') && url.pathname.startsWith('//')) {
    assignWithoutHost(url, name, value);
  } else if (name !== 'hostname' || !/^(?:[^[/?#\\:]|\[[^\]]*\])*:/.test(withoutBreaks(value))) {
    // A host name with a port is none.
    url[name] = value;
  }
  return url;
}

// The engine takes a letter with a colon for a drive in all schemes, and leads no further up.
function withoutDrive(url, text, base) {
  const isSpecial = SPECIAL.test(url.protocol);
  const [, scheme, authority, path] = (isSpecial ? SPECIAL_PARTS : PARTS).exec(text);
  const isRelative = scheme === undefined && authority === undefined;
  if (path === '' || isOpaque(url) || (isSpecial && scheme !== undefined && authority === undefined)) return url;
  const separator = isSpecial ? /[/\\]/ : /\//;
  const isWhole = path.search(separator) === 0;
  const before = isRelative && !isWhole ? parseByEngine(base).pathname.slice(1).split('/').slice(0, -1) : [];
  return assign(url, 'pathname', `/${segmentsFrom(before, isWhole ? path.slice(1) : path, false, separator).join('/')}`);
}

function parseByEngine(given, base) {
  let text = given;
  if (base !== undefined && SPECIAL.test(base)) text = text.replace(/^[/\\]{3,}/, '//');
  if (!SPECIAL.test(text)) text = text.replace(OPAQUE_WITH_SPACE, '$1%20');
  const url = base === undefined ? new Native(text) : new Native(text, base);
  if (LIKE_DRIVE.test(text) || LIKE_DRIVE.test(base ?? '')) return withoutDrive(url, text, base);
  return text.includes('^') || base?.includes('^') ? assign(url, 'pathname', url.pathname) : url;
}

const isHttp = (text) => text.startsWith('http:') || text.startsWith('https:');
const isSlash = (code) => code === 47 || code === 92;

// Whether the engine parses it as it should, which is to be found out fast: most are of `http:` or relative to it.
function isUsual(text, base) {
  if (text.includes('^') || (base !== undefined && (!isHttp(base) || base.includes('^')))) return false;
  // A colon behind that of the scheme is rare, but for ports.
  if (text.includes(':', 6) && LIKE_DRIVE.test(text)) return false;
  if (base === undefined || isHttp(text)) return isHttp(text);
  if (base.includes(':', 6) && LIKE_DRIVE.test(base)) return false;
  const first = text.charCodeAt(0);
  if (isSlash(first)) return text.length === 1 || (text.charCodeAt(1) > 32 && !isSlash(text.charCodeAt(1)));
  return first > 32 && !text.includes(':');
}

// A URL with the parts that the engine's has. They are set with `assign`. Throws for what is none.
export function parse(given, base) {
  if (isUsual(given, base)) return base === undefined ? new Native(given) : new Native(given, base);
  const text = cleaned(given);
  const scheme = SCHEME.exec(text)?.[0].toLowerCase();
  const behindFile = scheme === 'file' ? text.slice(5) : undefined;
  if (base === undefined) return behindFile === undefined ? parseByEngine(text) : FileUrl.parse(behindFile);
  const baseText = cleaned(base);
  const fileBase = /^file:/i.test(baseText) ? FileUrl.parse(baseText.slice(5)) : null;
  if (behindFile === undefined && (scheme !== undefined || fileBase === null)) return parseByEngine(text, baseText);
  if (fileBase === null) new Native(baseText);
  return FileUrl.parse(behindFile ?? text, fileBase);
}
