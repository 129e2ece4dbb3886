// node:buffer of @jspm/core, which has no `base64url`; it reads that alphabet as base64.

import { Buffer, INSPECT_MAX_BYTES, kMaxLength } from 'wasmhost:jspm/buffer';

import { define } from '../shape.js';

const isUrl = (encoding) => typeof encoding === 'string' && encoding.toLowerCase() === 'base64url';

// The arguments with `base64` in the place of `base64url`.
const asBase64 = (args) => args.map((arg, index) => (index > 0 && isUrl(arg) ? 'base64' : arg));

for (const [target, names] of [
  [Buffer, ['alloc', 'byteLength', 'from']],
  [Buffer.prototype, ['fill', 'includes', 'indexOf', 'lastIndexOf', 'write']],
]) {
  for (const name of names) {
    const plain = target[name];
    define(target, name, {
      [name](...args) {
        return plain.apply(this, asBase64(args));
      },
    }[name]);
  }
}

const { isEncoding } = Buffer;
define(Buffer, 'isEncoding', (encoding) => isUrl(encoding) || isEncoding(encoding));

const { toString } = Buffer.prototype;
define(Buffer.prototype, 'toString', function (encoding, ...range) {
  if (!isUrl(encoding)) return toString.call(this, encoding, ...range);
  return toString.call(this, 'base64', ...range).replace(/=+$/, '').replaceAll('+', '-').replaceAll('/', '_');
});

function holds(decoder, bytes) {
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

export const isUtf8 = (bytes) => holds(new TextDecoder('utf-8', { fatal: true }), bytes);
export const isAscii = (bytes) => new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset, bytes.byteLength).every((byte) => byte < 128);
export const { atob, btoa, Blob, File } = globalThis;
export const constants = { MAX_LENGTH: kMaxLength, MAX_STRING_LENGTH: 0x1fffffe8 };
export { Buffer, INSPECT_MAX_BYTES, kMaxLength };

export default { Buffer, INSPECT_MAX_BYTES, kMaxLength, isUtf8, isAscii, atob, btoa, Blob, File, constants };
