// MIME types (MIME Sniffing, section 4).

import { trimmed, trimmedEnd } from './spaces.js';

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const QUOTABLE = /^[\t\x20-\x7e\x80-\xff]*$/;
// A parameter: its name and value, the value as a quoted string or not, up to the next semicolon. A quoted string need not end.
const PARAMETER = /;[\t\n\r ]*([^;=]*)(?:=(?:"((?:\\[^]|[^"\\])*(?:\\$)?)"?[^;]*|([^;]*)))?/gy;

const lower = (text) => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

// { essence, parameters }, the latter a Map; null for what is no MIME type.
export function parseMime(text) {
  const given = trimmed(text);
  const end = given.indexOf(';');
  const essence = end < 0 ? given : trimmedEnd(given.slice(0, end));
  const slash = essence.indexOf('/');
  if (slash < 0 || !TOKEN.test(essence.slice(0, slash)) || !TOKEN.test(essence.slice(slash + 1))) return null;
  const parameters = new Map();
  if (end >= 0) {
    for (const [, name, quoted, plain] of given.slice(end).matchAll(PARAMETER)) {
      const key = lower(name);
      const value = quoted === undefined ? plain && trimmedEnd(plain) : quoted.replace(/\\([^]|$)/g, (_, char) => char || '\\');
      const isValid = TOKEN.test(key) && value !== undefined && QUOTABLE.test(value) && (quoted !== undefined || value !== '');
      if (isValid && !parameters.has(key)) parameters.set(key, value);
    }
  }
  return { essence: lower(essence), parameters };
}

export function serializeMime({ essence, parameters }) {
  let text = essence;
  for (const [name, value] of parameters) {
    text += `;${name}=${TOKEN.test(value) ? value : `"${value.replace(/["\\]/g, '\\$&')}"`}`;
  }
  return text;
}

// The parts of a header's value between commas that are in no quoted string (Fetch, "get, decode, and split").
const parts = (value) => [...value.matchAll(/(?:^|,)((?:"(?:\\[^]|[^"\\])*"?|[^",])*)/g)].map(([, part]) => part);

// The type that headers name (Fetch, "extract a MIME type"); null if they name none.
export function mimeOf(headers) {
  const value = headers.get('content-type');
  if (value === null) return null;
  let found = null;
  let charset;
  let essence;
  for (const part of parts(value)) {
    const type = parseMime(part);
    if (type === null || type.essence === '*/*') continue;
    found = type;
    if (type.essence !== essence) {
      charset = type.parameters.get('charset');
      ({ essence } = type);
    } else if (charset !== undefined && !type.parameters.has('charset')) {
      type.parameters.set('charset', charset);
    }
  }
  return found;
}
