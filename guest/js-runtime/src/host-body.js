// Bodies of the host: those that come, of a request or of the response to an outgoing one, and those that go.

import { giveUp, ready } from './loop.js';
import {
  CLOSED,
  FAILED,
  dropIncomingBody,
  dropInput,
  dropOutgoingBody,
  dropOutput,
  finish,
  inputOf,
  outputOf,
  read,
  room,
  subscribeInput,
  subscribeOutput,
  write,
  writeText,
} from './wasi.js';

// Of one read.
const CHUNK_BYTES = 65536n;

// Bodies that hold something of the host, which has to go when the call ends.
const open = new Set();

export function closeAll() {
  for (const body of open) body.close();
}

export function concat(chunks, length) {
  if (chunks.length === 1) return chunks[0];
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

const broken = () => new TypeError('the body broke off');
// Whoever was to receive a body has gone.
const GONE = new TypeError('the receiver of the body has gone');

// One that comes. It is read as somebody asks for it, through one of `stream`, `collect` and `pipe`.
export class HostBody {
  #consume;
  #body = 0;
  #input = 0;
  #pollable = 0;

  #reason = null;

  // `consume` gives the body's handle, the first time that somebody reads.
  constructor(consume) {
    this.#consume = consume;
  }

  // One whose handle is here already.
  static of(handle) {
    const body = new HostBody(null);
    body.#take(handle);
    return body;
  }

  #take(handle) {
    this.#body = handle;
    this.#input = inputOf(handle);
    open.add(this);
  }

  // Breaks off when the signal comes.
  abortWith(signal) {
    signal.addEventListener('abort', () => this.close(signal.reason), { once: true });
  }

  // Some bytes; null at the end.
  async #next() {
    if (this.#consume !== null) {
      const handle = this.#consume();
      this.#consume = null;
      this.#take(handle);
    }
    if (this.#reason !== null) throw this.#reason;
    while (this.#input !== 0) {
      const chunk = read(this.#input, CHUNK_BYTES);
      if (chunk === null) {
        this.#pollable = subscribeInput(this.#input);
        await ready(this.#pollable);
        this.#pollable = 0;
      } else if (typeof chunk === 'object') {
        return chunk;
      } else {
        this.close();
        if (chunk === FAILED) throw broken();
      }
    }
    return null;
  }

  // Gives back what it holds. What was not read is left; with a reason, whoever reads on hears of it.
  close(reason = null) {
    if (this.#input === 0) return;
    this.#reason = reason;
    if (this.#pollable !== 0) giveUp(this.#pollable, reason ?? broken());
    dropInput(this.#input);
    dropIncomingBody(this.#body);
    this.#input = 0;
    open.delete(this);
  }

  // From which the host is asked for no more than is read. `taken` is told when somebody reads.
  stream(taken) {
    return new ReadableStream(
      {
        pull: async (controller) => {
          taken();
          const chunk = await this.#next();
          if (chunk === null) controller.close();
          else controller.enqueue(chunk);
        },
        cancel: () => {
          taken();
          this.#consume = null;
          this.close();
        },
      },
      { highWaterMark: 0 },
    );
  }

  async collect() {
    const chunks = [];
    let length = 0;
    for (let chunk = await this.#next(); chunk !== null; chunk = await this.#next()) {
      chunks.push(chunk);
      length += chunk.length;
    }
    return concat(chunks, length);
  }

  async pipe(sink) {
    for (let chunk = await this.#next(); chunk !== null; chunk = await this.#next()) await sink.write(chunk);
  }
}

// One that goes. Closed before its end it is broken off, which whoever receives it sees.
export class Sink {
  #body;
  #output = 0;
  #pollable = 0;

  constructor(body, output = 0) {
    this.#body = body;
    this.#output = output;
    open.add(this);
  }

  // Writes all of these bytes, as fast as they are taken.
  async write(chunk) {
    let from = 0;
    while (from < chunk.length) {
      const allowed = await this.#room();
      const to = Math.min(chunk.length, from + allowed);
      if (write(this.#output, chunk, from, to) !== 0) this.#gone();
      from = to;
    }
  }

  async #room() {
    if (this.#output === 0) this.#output = outputOf(this.#body);
    for (;;) {
      const allowed = room(this.#output);
      if (allowed > 0) return allowed;
      if (allowed < 0) this.#gone();
      this.#pollable = subscribeOutput(this.#output);
      await ready(this.#pollable);
      this.#pollable = 0;
    }
  }

  #gone() {
    this.close();
    throw GONE;
  }

  // Ends it well.
  end() {
    open.delete(this);
    if (this.#output !== 0) dropOutput(this.#output);
    const body = this.#body;
    this.#body = 0;
    finish(body);
  }

  close() {
    if (this.#body === 0) return;
    open.delete(this);
    if (this.#pollable !== 0) giveUp(this.#pollable, broken());
    if (this.#output !== 0) dropOutput(this.#output);
    dropOutgoingBody(this.#body);
    this.#body = 0;
  }
}

const encoder = new TextEncoder();

// Sends a body of any kind (see `body.js`) but null, and ends it. What fits at once goes at once; else gives a promise of
// the rest. A receiver that has gone is no error; one of the body's own is.
export function sendBody(body, content) {
  const isText = typeof content === 'string';
  if (!isText && !(content instanceof Uint8Array)) return pump(new Sink(body), content);
  if (content.length === 0) {
    finish(body);
    return undefined;
  }
  const output = outputOf(body);
  // Three bytes of UTF-8 at most for each unit of a string.
  if ((isText ? content.length * 3 : content.length) <= room(output)) {
    const wrote = isText ? writeText(output, content) : write(output, content, 0, content.length);
    dropOutput(output);
    if (wrote === 0) finish(body);
    else dropOutgoingBody(body);
    return undefined;
  }
  return pump(new Sink(body, output), isText ? encoder.encode(content) : content);
}

async function pump(sink, content) {
  try {
    if (content instanceof Uint8Array) await sink.write(content);
    else if (content instanceof HostBody) await content.pipe(sink);
    else await pumpStream(sink, content);
    sink.end();
  } catch (error) {
    sink.close();
    if (error !== GONE) throw error;
  }
}

async function pumpStream(sink, stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    try {
      if (!(value instanceof Uint8Array)) throw new TypeError('a body is made of Uint8Arrays');
      await sink.write(value);
    } catch (error) {
      // Nobody waits for what the stream's source makes of it.
      reader.cancel(error).catch(() => {});
      throw error;
    }
  }
}
