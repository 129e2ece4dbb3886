// Forms as bodies: FormData as multipart/form-data (RFC 7578; HTML, "multipart/form-data encoding algorithm"), and back.

import { trimmed } from './spaces.js';

// The bytes, as a Blob, and the type.
export function multipart(form) {
  const boundary = `----form-${crypto.randomUUID()}`;
  const quoted = (name) => name.replace(/["\r\n]/g, encodeURIComponent);
  const withBreaks = (text) => text.replace(/\r\n?|\n/g, '\r\n');
  const parts = [];
  for (const [name, value] of form) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${quoted(withBreaks(name))}"`;
    if (typeof value === 'string') parts.push(`${head}\r\n\r\n${withBreaks(value)}\r\n`);
    else parts.push(`${head}; filename="${quoted(value.name)}"\r\nContent-Type: ${value.type || 'application/octet-stream'}\r\n\r\n`, value, '\r\n');
  }
  parts.push(`--${boundary}--\r\n`);
  return [new Blob(parts), `multipart/form-data; boundary=${boundary}`];
}

const decoder = new TextDecoder();
const plainDecoder = new TextDecoder('utf-8', { ignoreBOM: true });

export function urlencodedFormOf(bytes) {
  const form = new FormData();
  // The question mark would be taken for what it is in a URL.
  for (const [name, value] of new URLSearchParams(`?${plainDecoder.decode(bytes)}`)) form.append(name, value);
  return form;
}

// RFC 2046, section 5.1.1. A search for a long one could take as long as it is, for each byte of the body.
const BOUNDARY_MAX = 70;
// A parameter of Content-Disposition, with its value as a quoted string or not. Browsers write a backslash as it is, and a quote as
// %22; others write a backslash before the quote.
const PARAMETER = /;[\t ]*([^\s;="]+)[\t ]*=[\t ]*(?:"((?:\\"|[^"])*)"|([^\s;"]+))[\t ]*/gy;
const unquoted = (text) => text.replaceAll('\\"', '"').replace(/%22|%0D|%0A/gi, decodeURIComponent);

// The name and the file's name, undefined where there is none, of a part's head; and its type.
function readHead(head) {
  const fields = new Map();
  for (const line of head.split('\r\n')) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon > 0 && !fields.has(name)) fields.set(name, trimmed(line.slice(colon + 1)));
  }
  const disposition = fields.get('content-disposition') ?? '';
  const kind = /^form-data[\t ]*(?=;)/i.exec(disposition)?.[0] ?? '';
  const parameters = new Map();
  for (const [, name, quoted, plain] of kind === '' ? [] : disposition.slice(kind.length).matchAll(PARAMETER)) {
    if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), plain ?? unquoted(quoted));
  }
  return { name: parameters.get('name'), file: parameters.get('filename'), type: fields.get('content-type') || 'text/plain' };
}

// The form that bytes of multipart/form-data hold. (The engine's parser puts other contents into the files.)
export function formOf(bytes, boundary) {
  const invalid = () => new TypeError('the body is no form of multipart/form-data');
  if (boundary === undefined || boundary === '' || boundary.length > BOUNDARY_MAX) throw invalid();
  // One character a byte, to search in.
  const text = new TextDecoder('latin1').decode(bytes);
  const delimiter = `--${boundary}`;
  const form = new FormData();
  let at = text.indexOf(delimiter);
  for (;;) {
    if (at < 0) throw invalid();
    at += delimiter.length;
    if (text.startsWith('--', at)) return form;
    const begin = text.indexOf('\r\n\r\n', at) + 4;
    const end = text.indexOf(`\r\n${delimiter}`, begin);
    if (begin < 4 || end < 0) throw invalid();
    const { name, file, type } = readHead(decoder.decode(bytes.subarray(at, begin)));
    if (name === undefined) throw invalid();
    const content = bytes.subarray(begin, end);
    form.append(name, file === undefined ? plainDecoder.decode(content) : new File([content], file, { type }));
    at = end + 2;
  }
}
