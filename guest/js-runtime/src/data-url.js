// What a data: URL holds (Fetch, "data: URL processor").

import { parseMime } from './mime.js';
import { trimmed } from './spaces.js';

const SPACES = /[\t\n\f\r ]+/g;
const BASE64 = /; *base64$/i;
const US_ASCII = { essence: 'text/plain', parameters: new Map([['charset', 'US-ASCII']]) };

// A serialized URL is ASCII, so that each character that is not encoded is a byte.
function percentDecoded(text) {
  const bytes = new Uint8Array(text.length);
  let length = 0;
  for (let index = 0; index < text.length; index++) {
    const hex = text.charCodeAt(index) === 37 ? text.slice(index + 1, index + 3) : '';
    if (/^[0-9A-Fa-f]{2}$/.test(hex)) {
      bytes[length++] = Number.parseInt(hex, 16);
      index += 2;
    } else {
      bytes[length++] = text.charCodeAt(index);
    }
  }
  return bytes.slice(0, length);
}

// Infra, "forgiving-base64 decode"; null for what is none.
function base64Decoded(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  text = text.replace(SPACES, '');
  if (text.length % 4 === 0) text = text.replace(/==?$/, '');
  if (text.length % 4 === 1 || /[^0-9A-Za-z+/]/.test(text)) return null;
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

// { type, bytes }, the type as `parseMime` gives it; null for what is no data: URL.
export function dataOf(url) {
  const text = url.href.slice('data:'.length).replace(/#[^]*$/, '');
  const comma = text.indexOf(',');
  if (comma < 0) return null;
  let mime = trimmed(text.slice(0, comma));
  let bytes = percentDecoded(text.slice(comma + 1));
  if (BASE64.test(mime)) {
    bytes = base64Decoded(bytes);
    if (bytes === null) return null;
    mime = mime.replace(BASE64, '');
  }
  if (mime.startsWith(';')) mime = `text/plain${mime}`;
  return { type: parseMime(mime) ?? US_ASCII, bytes };
}
