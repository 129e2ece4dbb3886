// Blob and File in front of the engine's (File API), and the URLs of blobs.

import { whenOver } from './loop.js';
import { define, INNER, provide, shape, showMembers } from './shape.js';
import { byteStream } from './streams.js';

const NativeBlob = globalThis.Blob;
const NativeFile = globalThis.File;
const CHUNK_BYTES = 65536;

// The engine takes a type only if it is a string.
function bagOf({ endings, type }) {
  const bag = {};
  if (endings !== undefined) {
    bag.endings = `${endings}`;
    if (bag.endings !== 'transparent' && bag.endings !== 'native') throw new TypeError('endings is "transparent" or "native"');
  }
  if (type !== undefined) bag.type = `${type}`;
  return bag;
}

function optionsOf(given) {
  if (given === undefined || given === null) return {};
  if (typeof given !== 'object' && typeof given !== 'function') throw new TypeError('the options of a Blob are an object');
  return given;
}

// Puts an interface in front of the engine's. It stays the same one for `instanceof` and for classes that extend it.
function interfaceOf(Native, length, construct) {
  const Interface = new Proxy(Native, {
    construct(_, given, newTarget) {
      if (given.length < length) throw new TypeError(`${Native.name} needs ${length} arguments`);
      return construct(given, newTarget);
    },
  });
  define(Native.prototype, 'constructor', Interface);
  shape(Native, Native.name, length);
  provide(Native.name, Interface);
}

// The engine leaves the ends of lines as they are.
function partsOf(parts, { endings }) {
  if (endings !== 'native') return parts;
  const isText = (part) => !(part instanceof NativeBlob || part instanceof ArrayBuffer || ArrayBuffer.isView(part));
  return [...parts].map((part) => (isText(part) ? `${part}`.replace(/\r\n?/g, '\n') : part));
}

interfaceOf(NativeBlob, 0, ([parts = [], options], newTarget) => {
  const bag = bagOf(optionsOf(options));
  return Reflect.construct(NativeBlob, [partsOf(parts, bag), bag], newTarget);
});
interfaceOf(NativeFile, 2, ([parts, name, options], newTarget) => {
  const given = optionsOf(options);
  const bag = bagOf(given);
  const file = Reflect.construct(NativeFile, [partsOf(parts, bag), name, bag], newTarget);
  // The engine keeps 32 bits of it.
  know(file, { lastModified: given.lastModified === undefined ? Date.now() : Math.trunc(Number(given.lastModified)) || 0 });
  return file;
});

Object.setPrototypeOf(NativeFile, globalThis.Blob);

function know(blob, more) {
  Object.defineProperty(blob, INNER, { value: { ...blob[INNER], ...more }, configurable: true });
}

// A number of bytes as Web IDL takes it (`[Clamp] long long`): rounded, halves to even.
function clamped(given) {
  const number = Number(given);
  if (!Number.isFinite(number)) return number > 0 ? Number.MAX_SAFE_INTEGER : number < 0 ? Number.MIN_SAFE_INTEGER : 0;
  const rounded = Math.round(number);
  return rounded - number === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

const { arrayBuffer, bytes, slice, text } = NativeBlob.prototype;
const { get: sizeOf } = Object.getOwnPropertyDescriptor(NativeBlob.prototype, 'size');
const { get: typeOf } = Object.getOwnPropertyDescriptor(NativeBlob.prototype, 'type');

Object.defineProperties(
  NativeBlob.prototype,
  Object.getOwnPropertyDescriptors({
    get type() {
      return this[INNER]?.type ?? typeOf.call(this);
    },

    slice(start = 0, end = this.size, contentType = '') {
      return slice.call(this, clamped(start), clamped(end), `${contentType}`);
    },

    // The engine's reads in its own loop, beside `loop.js`.
    stream() {
      const size = sizeOf.call(this);
      let at = 0;
      return byteStream(async () => {
        if (at >= size) return null;
        const part = this.slice(at, at + CHUNK_BYTES);
        at += CHUNK_BYTES;
        return new Uint8Array(await part.arrayBuffer());
      });
    },

    async arrayBuffer() {
      return arrayBuffer.call(this);
    },

    async bytes() {
      return bytes.call(this);
    },

    async text() {
      return text.call(this);
    },

    textStream() {
      return this.stream().pipeThrough(new TextDecoderStream());
    },
  }),
);
showMembers(NativeBlob.prototype);

Object.defineProperties(
  NativeFile.prototype,
  Object.getOwnPropertyDescriptors({
    // The engine makes Files itself, of the Blobs in a FormData.
    get lastModified() {
      if (this[INNER]?.lastModified === undefined) know(this, { lastModified: Date.now() });
      return this[INNER].lastModified;
    },
  }),
);

// A Blob with a type as it is: the constructor would put it in lower case.
export function withType(blob, type) {
  if (blob.type !== type) know(blob, { type });
  return blob;
}

// What URLs stand for, until they are revoked (File API, "blob URL store"), or the call is over. There are none of the top
// level, which has no random numbers.
const store = new Map();
const revokeAll = () => store.clear();

// What a URL stands for, whatever its fragment is; null for nothing.
export const blobOf = (href) => store.get(href.replace(/#[^]*$/, '')) ?? null;

export function createObjectURL(blob) {
  if (!(blob instanceof NativeBlob)) throw new TypeError('only a Blob has such a URL');
  const url = `blob:null/${crypto.randomUUID()}`;
  store.set(url, blob);
  whenOver(revokeAll);
  return url;
}

export function revokeObjectURL(url) {
  store.delete(`${url}`);
}
