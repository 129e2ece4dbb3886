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

// The form that bytes of multipart/form-data hold. (The engine's parser puts other contents into the files.)
export function formOf(bytes, boundary) {
  const invalid = () => new TypeError('the body is no form of multipart/form-data');
  if (boundary === undefined || boundary === '') throw invalid();
  // One character a byte, to search in.
  const text = new TextDecoder('latin1').decode(bytes);
  const delimiter = `--${boundary}`;
  const unquoted = (name) => name.replace(/%22|%0D|%0A/gi, decodeURIComponent);
  const form = new FormData();
  let at = text.indexOf(delimiter);
  for (;;) {
    if (at < 0) throw invalid();
    at += delimiter.length;
    if (text.startsWith('--', at)) return form;
    const begin = text.indexOf('\r\n\r\n', at) + 4;
    const end = text.indexOf(`\r\n${delimiter}`, begin);
    if (begin < 4 || end < 0) throw invalid();
    const head = decoder.decode(bytes.subarray(at, begin));
    const name = /^content-disposition:\s*form-data\s*;.*?[;\s]name="([^"]*)"/im.exec(head)?.[1];
    if (name === undefined) throw invalid();
    const file = /^content-disposition:.*[;\s]filename="([^"]*)"/im.exec(head)?.[1];
    const content = bytes.subarray(begin, end);
    if (file === undefined) {
      form.append(unquoted(name), plainDecoder.decode(content));
    } else {
      const kind = trimmed(/^content-type:(.*)/im.exec(head)?.[1] ?? '') || 'text/plain';
      form.append(unquoted(name), new File([content], unquoted(file), { type: kind }));
    }
    at = end + 2;
  }
}
