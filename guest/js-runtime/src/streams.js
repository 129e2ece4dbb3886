// Streams: those of the package web-streams-polyfill, in the place of the engine's, which are older than the standard of today.
// The engine's have no asynchronous iteration, no `from`, no `tee` of byte streams, no signal in `pipeTo`, no `min` in reads
// into a buffer, no `cancel` of transformers, and no signal of the sink.

import * as streams from 'wasmhost:streams';

import { define, INNER, provide, shape } from './shape.js';

for (const [name, value] of Object.entries(streams)) provide(name, value);

// The package's iterators are of no kind, and are made by a function of their own.
const iterators = Object.getPrototypeOf(new ReadableStream().values());
delete iterators[Symbol.asyncIterator];
Object.setPrototypeOf(iterators, Object.getPrototypeOf(Object.getPrototypeOf((async function* () {}).prototype)));
define(ReadableStream.prototype, Symbol.asyncIterator, ReadableStream.prototype.values);

// Whether a stream was read from or cancelled. The package keeps that here, and `build.mjs` takes no other version.
export const isDisturbed = (stream) => stream._disturbed;

// Makes a stream one that was read, and that its reader holds, since what it is of is read in another way.
export function spend(stream) {
  stream.getReader();
  stream._disturbed = true;
  return stream;
}

// A stream of bytes that asks `next` for a chunk of its own (null: the end) whenever somebody reads.
export const byteStream = (next, cancel) =>
  new ReadableStream({
    type: 'bytes',
    async pull(controller) {
      const chunk = await next();
      if (chunk !== null) return controller.enqueue(chunk);
      controller.close();
      // Whoever reads into a buffer has it back.
      return controller.byobRequest?.respond(0);
    },
    cancel,
  });

// Two streams of what one gives, neither of which sees what is done to the chunks of the other (Fetch, "clone a body"). Byte streams
// see to that themselves.
export function branches(stream) {
  const [one, other] = stream.tee();
  if (stream._readableStreamController instanceof ReadableByteStreamController) return [one, other];
  const reader = other.getReader();
  const copy = new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(structuredClone(value));
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return [one, copy];
}

const sides = {
  get readable() {
    return this[INNER].stream.readable;
  },

  get writable() {
    return this[INNER].stream.writable;
  },
};

// Gives an interface the two sides (Streams, "GenericTransformStream") of the TransformStream that INNER's `stream` is.
export const mixSides = (Interface) => Object.defineProperties(Interface.prototype, Object.getOwnPropertyDescriptors(sides));
