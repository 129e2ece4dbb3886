// CompressionStream and DecompressionStream (Compression): the engine's, between the streams of `streams.js`. The engine takes input
// that breaks off for the end, and does not look at the number there that says whether all came out.

import { INNER, provide, shape } from './shape.js';
import { mixSides } from './streams.js';

const viewOf = (chunk) => (ArrayBuffer.isView(chunk) ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength) : new Uint8Array(chunk));

// The last four bytes of what came, as a number; undefined if there are not so many.
class Ending {
  constructor() {
    this.bytes = new Uint8Array(0);
  }

  add(chunk) {
    const last = viewOf(chunk).slice(-4);
    const both = new Uint8Array(this.bytes.length + last.length);
    both.set(this.bytes);
    both.set(last, this.bytes.length);
    this.bytes = both.slice(-4);
  }

  number(isLittleEndian) {
    return this.bytes.length < 4 ? undefined : new DataView(this.bytes.buffer).getUint32(0, isLittleEndian);
  }
}

// So many bytes can be added up before the sums have to be shortened.
const ADLER_BYTES = 5552;
const ADLER = 65521;

// What the number at the end is of the output. Raw data has none.
const CHECKS = {
  gzip: { isLittleEndian: true, first: 0, add: (length, chunk) => (length + chunk.length) >>> 0 },
  deflate: {
    isLittleEndian: false,
    first: 1,
    add(sums, chunk) {
      let [low, high] = [sums & 0xffff, sums >>> 16];
      for (let from = 0; from < chunk.length; from += ADLER_BYTES) {
        const to = Math.min(chunk.length, from + ADLER_BYTES);
        for (let index = from; index < to; index++) high += low += chunk[index];
        low %= ADLER;
        high %= ADLER;
      }
      return ((high << 16) | low) >>> 0;
    },
  },
};

for (const name of ['CompressionStream', 'DecompressionStream']) {
  const Native = globalThis[name];
  const Interface = class {
    constructor(format) {
      if (arguments.length === 0) throw new TypeError(`${name} needs a format`);
      const native = new Native(format);
      const writer = native.writable.getWriter();
      const reader = native.readable.getReader();
      const check = name === 'DecompressionStream' ? CHECKS[format] : undefined;
      const ending = new Ending();
      let number = check?.first;
      let done;
      const stream = new TransformStream({
        start(controller) {
          const handOn = async () => {
            for (let read = await reader.read(); !read.done; read = await reader.read()) {
              if (check !== undefined) number = check.add(number, read.value);
              controller.enqueue(read.value);
            }
          };
          done = handOn().catch((error) => controller.error(error));
        },
        async transform(chunk) {
          await writer.write(chunk);
          if (check !== undefined) ending.add(chunk);
        },
        async flush() {
          await writer.close();
          await done;
          if (check !== undefined && ending.number(check.isLittleEndian) !== number) throw new TypeError('the compressed data breaks off, or is damaged');
        },
        async cancel(reason) {
          // Nobody waits for what the engine makes of it.
          await Promise.allSettled([writer.abort(reason), reader.cancel(reason)]);
        },
      });
      this[INNER] = { stream };
    }
  };
  mixSides(Interface);
  shape(Interface, name, 1);
  provide(name, Interface);
}
