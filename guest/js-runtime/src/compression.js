// CompressionStream and DecompressionStream (Compression), on native parts (`wit/deps/compression.wit`). `build.mjs` imports this
// before all modules of an application that names one of them, and `wasmhost build` adds the parts then.

import { whenOver } from './loop.js';
import { call, hasPart, isThere, made } from './native.js';
import { ByteArray, zeroed } from './own.js';
import { INNER, provide, shape } from './shape.js';
import { mixSides } from './streams.js';

const DEFLATE = 'wasmhost:compression/deflate';
const BROTLI = 'wasmhost:compression/brotli';
// In the order of the WIT's enum.
const FORMATS = ['deflate-raw', 'deflate', 'gzip'];
// So much of a chunk is given to a coder at once.
const INPUT_BYTES = 65536;

// A coder of a native part, which is there from the first input on: streams may be made at the top level.
class Coder {
  constructor(part, args) {
    this.part = part;
    this.args = args;
    this.handle = undefined;
  }

  feed(bytes, isLast) {
    if (this.handle === undefined) {
      if (!isThere()) throw new TypeError('compression needs a request: at the top level there is none');
      this.handle = call(`${this.part} [constructor]coder`, this.args);
      whenOver(() => this.close());
    }
    if (this.handle === null) throw new TypeError('the request that this stream belongs to is over');
    call(`${this.part} [method]coder.feed`, [this.handle, bytes, isLast]);
  }

  // The next piece of output; null where there is none without further input.
  next() {
    const piece = made(`${this.part} [method]coder.next`, [this.handle]);
    if (piece === null) throw new TypeError('the compressed data is damaged, breaks off, or goes on behind its end');
    return piece.length === 0 ? null : new ByteArray(piece.buffer);
  }

  close() {
    if (this.handle) call(`${this.part} [resource-drop]coder`, [this.handle]);
    this.handle = null;
  }
}

function coderOf(format, isDecompression) {
  if (FORMATS.includes(format)) return new Coder(DEFLATE, [FORMATS.indexOf(format), isDecompression]);
  if (format !== 'brotli') throw new TypeError(`there is no format ${format}`);
  if (hasPart(`${BROTLI} [constructor]coder`)) return new Coder(BROTLI, [isDecompression]);
  throw new TypeError('the format brotli is there for applications that have this word in their code');
}

function bytesOf(chunk) {
  if (ArrayBuffer.isView(chunk)) return new ByteArray(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer) return new ByteArray(chunk);
  throw new TypeError('a chunk is neither an ArrayBuffer nor a view of one');
}

// The two sides of a coder. It makes output when somebody wants to read some, and a write waits meanwhile: however much a little
// input becomes, there is only one piece of it at a time.
function sidesOf(coder) {
  let output;
  let input;
  let isWanted = false;
  // What one of the sides was given up with.
  let givenUp;
  let wake = () => {};
  const wanted = async () => {
    if (!isWanted && givenUp === undefined) await new Promise((resolve) => (wake = resolve));
    if (givenUp !== undefined) throw givenUp.reason;
  };
  const giveUp = (reason) => {
    givenUp ??= { reason };
    coder.close();
    wake();
  };
  const readable = new ReadableStream(
    {
      start(controller) {
        output = controller;
      },
      pull() {
        isWanted = true;
        wake();
      },
      cancel(reason) {
        giveUp(reason);
        input.error(reason);
      },
    },
    { highWaterMark: 0 },
  );
  const failing = (step) => async (chunk) => {
    try {
      await step(chunk);
    } catch (error) {
      giveUp(error);
      output.error(error);
      throw error;
    }
  };
  const writable = new WritableStream({
    start(controller) {
      input = controller;
      // A write that waits holds up the abort.
      controller.signal.addEventListener('abort', () => giveUp(controller.signal.reason));
    },
    write: failing(async (chunk) => {
      const bytes = bytesOf(chunk);
      for (let at = 0; at < bytes.length; at += INPUT_BYTES) {
        await wanted();
        coder.feed(bytes.subarray(at, at + INPUT_BYTES), false);
        for (let piece = coder.next(); piece !== null; piece = coder.next()) {
          isWanted = false;
          output.enqueue(piece);
          await wanted();
        }
      }
    }),
    // What is left is no more than a coder holds back.
    close: failing(() => {
      coder.feed(zeroed(0), true);
      for (let piece = coder.next(); piece !== null; piece = coder.next()) output.enqueue(piece);
      coder.close();
      output.close();
    }),
    abort(reason) {
      giveUp(reason);
      output.error(reason);
    },
  });
  return { readable, writable };
}

for (const [name, isDecompression] of [['CompressionStream', false], ['DecompressionStream', true]]) {
  const Interface = class {
    constructor(format) {
      if (arguments.length === 0) throw new TypeError(`${name} needs a format`);
      this[INNER] = { stream: sidesOf(coderOf(`${format}`, isDecompression)) };
    }
  };
  mixSides(Interface);
  shape(Interface, name, 1);
  provide(name, Interface);
}
