// Streams: those of the package web-streams-polyfill, in the place of the engine's, which are older than the standard of today.
// The engine's have no asynchronous iteration, no `from`, no `tee` of byte streams, no signal in `pipeTo`, no `min` in reads
// into a buffer, no `cancel` of transformers, and no signal of the sink.

import * as streams from 'wasmhost:streams';

import { define, INNER, provide, shape } from './shape.js';

const encoder = new TextEncoder();

for (const [name, value] of Object.entries(streams)) provide(name, value);

// The package's iterators are of no kind, and are made by a function of their own.
const iterators = Object.getPrototypeOf(new ReadableStream().values());
delete iterators[Symbol.asyncIterator];
Object.setPrototypeOf(iterators, Object.getPrototypeOf(Object.getPrototypeOf((async function* () {}).prototype)));
define(ReadableStream.prototype, Symbol.asyncIterator, ReadableStream.prototype.values);

// Of a stream that nothing was done with yet: what it is of (`content`), and whether that was read in another way.
const HELD = Symbol('held');

// Whether a stream was read from or cancelled. The package keeps that here, and `build.mjs` takes no other version.
export const isDisturbed = (stream) => stream[HELD]?.isSpent ?? stream._disturbed;

export const isUnusable = (stream) => stream[HELD]?.isSpent ?? (stream.locked || stream._disturbed);

// Makes a stream one that was read, and that its reader holds, since what it is of is read in another way.
export function spend(stream) {
  if (stream[HELD] !== undefined) {
    stream[HELD].isSpent = true;
    return stream;
  }
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

// The content that a stream is of, as long as nothing was done with it; undefined for others.
export const contentOf = (stream) => stream[HELD]?.content;

// What the package keeps in a stream. It takes an object with the last for a stream.
const PARTS = ['_state', '_reader', '_storedError', '_disturbed'];
const CONTROLLER = '_readableStreamController';
const whole = (name) => ({
  get() {
    return made(this)[name];
  },

  set(value) {
    made(this)[name] = value;
  },

  configurable: true,
});
const unmade = Object.create(ReadableStream.prototype, Object.fromEntries(PARTS.map((name) => [name, whole(name)])));
const unmadeController = whole(CONTROLLER);

// A stream of content that is there already. It is made when somebody does something with it: frameworks make a Response of
// the body of another one only to change its headers, and a stream costs as much as all the rest of a request.
export function streamOf(content) {
  const stream = Object.create(unmade);
  stream[HELD] = { content, isSpent: false };
  return Object.defineProperty(stream, CONTROLLER, unmadeController);
}

function made(stream) {
  const { content, isSpent } = stream[HELD];
  const chunks = content.length === 0 ? [] : [typeof content === 'string' ? encoder.encode(content) : content];
  delete stream[CONTROLLER];
  Object.setPrototypeOf(stream, ReadableStream.prototype);
  Object.assign(stream, byteStream(() => chunks.pop() ?? null));
  stream[CONTROLLER]._controlledReadableByteStream = stream;
  stream[HELD] = undefined;
  return isSpent ? spend(stream) : stream;
}

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
