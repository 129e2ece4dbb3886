// CompressionStream and DecompressionStream (Compression): the engine's, between the streams of `streams.js`. The engine takes input
// that breaks off for the end, and does not look at the number there that says whether all came out.

import { INNER, provide, shape } from './shape.js';
import { mixSides } from './streams.js';

const viewOf = (chunk) =>
  ArrayBuffer.isView(chunk) ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength) : new Uint8Array(chunk);

// How many bytes came, and the last four of them.
class Ending {
  constructor() {
    this.length = 0;
    this.bytes = [];
  }

  add(chunk) {
    this.length += chunk.byteLength;
    this.bytes = [...this.bytes, ...viewOf(chunk).slice(-4)].slice(-4);
  }
}

// What counts the bytes that came out, as the end of gzip's input does.
class Length {
  constructor() {
    this.length = 0;
  }

  add(chunk) {
    this.length += chunk.length;
  }

  bytes() {
    return [0, 8, 16, 24].map((bits) => (this.length >>> bits) & 255);
  }
}

// What sums them up, as the end of deflate's does. In JavaScript it would take twenty times as long as all the rest; so the engine
// packs them once more, and what it sums up is the end of that.
class Sum {
  constructor() {
    const { readable, writable } = new NativeCompression('deflate');
    this.writer = writable.getWriter();
    this.ending = new Ending();
    this.done = this.read(readable.getReader());
  }

  async read(reader) {
    for (let read = await reader.read(); !read.done; read = await reader.read()) this.ending.add(read.value);
  }

  add(chunk) {
    return this.writer.write(chunk);
  }

  async bytes() {
    await this.writer.close();
    await this.done;
    return this.ending.bytes;
  }
}

const CHECKS = { gzip: Length, deflate: Sum };
// Head and end of each. A head alone may look like an end.
const BYTES_MIN = { gzip: 18, deflate: 6 };
const NativeCompression = globalThis.CompressionStream;

for (const name of ['CompressionStream', 'DecompressionStream']) {
  const Native = globalThis[name];
  const Interface = class {
    constructor(format) {
      if (arguments.length === 0) throw new TypeError(`${name} needs a format`);
      const native = new Native(format);
      const writer = native.writable.getWriter();
      const reader = native.readable.getReader();
      // Raw data says nothing at its end.
      const Check = name === 'DecompressionStream' ? CHECKS[format] : undefined;
      const check = Check && new Check();
      const ending = new Ending();
      let done;
      const stream = new TransformStream({
        start(controller) {
          const handOn = async () => {
            for (let read = await reader.read(); !read.done; read = await reader.read()) {
              await check?.add(read.value);
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
          if (check === undefined) return;
          if (ending.length < BYTES_MIN[format] || `${await check.bytes()}` !== `${ending.bytes}`) {
            throw new TypeError('the compressed data breaks off, or is damaged');
          }
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
