// PURE: what a shared cache may keep and for how long (RFC 9111), as Workers' Cache API applies it.

// The elements of a list, without the commas within quotes.
function elements(text) {
  return [...text.matchAll(/(?:[^,"]|"(?:[^"\\]|\\.)*"?)+/g)].map(([element]) => element.trim()).filter(Boolean);
}

const unquoted = (text) => (text.startsWith('"') ? text.slice(1, -1).replace(/\\(.)/g, '$1') : text);

// The directives of Cache-Control with their arguments (RFC 9111, section 5.2); of one that comes twice the first counts.
export function directivesOf(text) {
  const directives = new Map();
  for (const element of elements(text ?? '')) {
    const [, name, argument] = /^([^=\s]+)\s*(?:=\s*([^]*))?$/.exec(element) ?? [];
    const key = name?.toLowerCase();
    if (key !== undefined && !directives.has(key)) directives.set(key, argument === undefined ? null : unquoted(argument));
  }
  return directives;
}

// Delta seconds; what is none counts as 0, so that the response is stale (section 4.2.1).
const secondsOf = (text) => (/^\d+$/.test(text ?? '') ? Math.min(Number(text), 2 ** 31) : 0);

const dateOf = (text) => {
  const date = Date.parse(text ?? '');
  return Number.isNaN(date) ? null : date;
};

// For how many seconds a response without a word of it is fresh, as Workers has it.
const DEFAULTS = new Map([
  [200, 7200],
  [301, 7200],
  [302, 1200],
  [303, 1200],
  [404, 180],
  [410, 180],
]);

// How long a response is fresh from when it was made, in seconds (section 4.2.1).
function lifetimeOf(status, headers, directives, now) {
  if (directives.has('s-maxage')) return secondsOf(directives.get('s-maxage'));
  if (directives.has('max-age')) return secondsOf(directives.get('max-age'));
  if (headers.has('expires')) {
    const expires = dateOf(headers.get('expires'));
    return expires === null ? 0 : (expires - (dateOf(headers.get('date')) ?? now)) / 1000;
  }
  return DEFAULTS.get(status) ?? 0;
}

// How old a response is when it comes, in seconds (section 4.2.3).
function ageOf(headers, now) {
  const date = dateOf(headers.get('date'));
  const apparent = date === null ? 0 : Math.max(0, (now - date) / 1000);
  return Math.max(apparent, secondsOf(headers.get('age')));
}

// The fields that a directive says its restriction of, if it says so; they are not kept then.
const fieldsOf = (argument) => elements(argument).map((name) => name.toLowerCase());

const RESTRICTING = ['private', 'no-cache'];
const ALLOWING = ['public', 's-maxage', 'must-revalidate'];

// What is kept of a response: { seconds, age, without }, for how long, how old it is, and without which fields. Null: it is not
// kept (section 3).
export function keeping(requestHeaders, status, headers, now) {
  const directives = directivesOf(headers.get('cache-control'));
  if (directives.has('no-store') || status === 304) return null;
  const without = new Set();
  for (const name of RESTRICTING) {
    const argument = directives.get(name);
    if (argument === null) return null;
    if (argument !== undefined) for (const field of fieldsOf(argument)) without.add(field);
  }
  if (headers.has('set-cookie') && !without.has('set-cookie')) return null;
  if (requestHeaders.has('authorization') && !ALLOWING.some((name) => directives.has(name))) return null;
  const age = ageOf(headers, now);
  const seconds = lifetimeOf(status, headers, directives, now) - age;
  return seconds > 0 ? { seconds, age, without } : null;
}

// The names of Vary, in order; null for `*`.
export function variesOn(vary) {
  const names = elements(vary ?? '').map((name) => name.toLowerCase());
  return names.includes('*') ? null : [...new Set(names)].sort();
}

// What a request has in these fields, as one text: requests with the same get the same response (section 4.1).
export const variantOf = (names, headers) => JSON.stringify(names.map((name) => headers.get(name)));

// Entity tags are compared weakly (RFC 9110, section 8.8.3.2).
const opaque = (tag) => tag.replace(/^W\//, '');

// Whether the client has what is kept (RFC 9110, sections 13.1.2 and 13.1.3).
export function isKnown(request, headers) {
  const [tags, etag] = [request.get('if-none-match'), headers.get('etag')];
  if (tags !== null) {
    if (tags.trim() === '*') return true;
    return etag !== null && elements(tags).some((tag) => opaque(tag) === opaque(etag));
  }
  const [since, modified] = [dateOf(request.get('if-modified-since')), dateOf(headers.get('last-modified'))];
  return since !== null && modified !== null && modified <= since;
}

// The bytes that are asked for (RFC 9110, section 14.2): { from, to }; null: all of them, since it is no range, or several;
// 'unsatisfiable'.
export function rangeOf(request, headers, length) {
  const asked = /^bytes\s*=\s*(\d*)\s*-\s*(\d*)$/i.exec(request.get('range') ?? '');
  if (asked === null || (asked[1] === '' && asked[2] === '')) return null;
  const condition = request.get('if-range');
  // Compared strongly (section 13.1.5).
  if (condition !== null && (condition.startsWith('W/') || (condition !== headers.get('etag') && condition !== headers.get('last-modified')))) {
    return null;
  }
  const [first, last] = [asked[1] === '' ? null : Number(asked[1]), asked[2] === '' ? null : Number(asked[2])];
  if (first === null) return last === 0 || length === 0 ? 'unsatisfiable' : { from: Math.max(0, length - last), to: length };
  if (last !== null && last < first) return null;
  return first >= length ? 'unsatisfiable' : { from: first, to: last === null ? length : Math.min(length, last + 1) };
}
