// Bodies of the host: those that come, of a request or of the response to an outgoing one, and those that go.

import { offAbort, onAbort } from './abort.js';
import { giveUp, ready, whenOver } from './loop.js';
import { byteStream } from './streams.js';
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
} from './wasi.js';

// Of one read.
const CHUNK_BYTES = 65536n;

// Bodies that hold something of the host, which has to go when the call ends.
const open = new Set();

function closeAll() {
  for (const body of open) body.close();
}

function keep(body) {
  open.add(body);
  whenOver(closeAll);
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

// Of a stream: the HostBody that it reads.
const SOURCE = Symbol('source');
export const sourceOf = (stream) => stream[SOURCE];

// One that comes. It is read as somebody asks for it, through one of `stream`, `collect` and `pipe`.
export class HostBody {
  // `consume` gives the body's handle, the first time that somebody reads.
  constructor(consume) {
    this._consume = consume;
    this._body = 0;
    this._input = 0;
    this._pollable = 0;
    this._reason = null;
    this._signal = null;
    this._abort = null;
  }

  // One whose handle is here already.
  static of(handle) {
    const body = new HostBody(null);
    body._take(handle);
    return body;
  }

  _take(handle) {
    this._body = handle;
    this._input = inputOf(handle);
    keep(this);
  }

  // Breaks off when the signal comes.
  abortWith(signal) {
    this._signal = signal;
    this._abort = () => this.close(signal.reason);
    onAbort(signal, this._abort);
  }

  // Some bytes; null at the end.
  async _next() {
    if (this._consume !== null) {
      const handle = this._consume();
      this._consume = null;
      this._take(handle);
    }
    if (this._reason !== null) throw this._reason;
    while (this._input !== 0) {
      const chunk = read(this._input, CHUNK_BYTES);
      if (chunk === null) {
        this._pollable = subscribeInput(this._input);
        await ready(this._pollable);
        this._pollable = 0;
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
    if (this._input === 0) return;
    this._reason = reason;
    if (this._pollable !== 0) giveUp(this._pollable, reason ?? broken());
    dropInput(this._input);
    dropIncomingBody(this._body);
    this._input = 0;
    open.delete(this);
    if (this._signal !== null) offAbort(this._signal, this._abort);
  }

  // From which the host is asked for no more than is read.
  stream() {
    const stream = byteStream(
      () => this._next(),
      () => {
        this._consume = null;
        this.close();
      },
    );
    stream[SOURCE] = this;
    return stream;
  }

  async collect() {
    const chunks = [];
    let length = 0;
    for (let chunk = await this._next(); chunk !== null; chunk = await this._next()) {
      chunks.push(chunk);
      length += chunk.length;
    }
    return concat(chunks, length);
  }

  async pipe(sink) {
    try {
      for (let chunk = await this._next(); chunk !== null; chunk = await this._next()) await sink.write(chunk);
    } catch (error) {
      this.close();
      throw error;
    }
  }
}

// One that goes. Closed before its end it is broken off, which whoever receives it sees.
export class Sink {
  constructor(body, output = 0) {
    this._body = body;
    this._output = output;
    this._pollable = 0;
    keep(this);
  }

  // Writes all of these bytes, as fast as they are taken.
  async write(chunk) {
    let from = 0;
    while (from < chunk.length) {
      const allowed = await this._room();
      const to = Math.min(chunk.length, from + allowed);
      if (write(this._output, chunk, from, to) !== 0) this._gone();
      from = to;
    }
  }

  async _room() {
    for (;;) {
      // The call that it was of is over.
      if (this._body === 0) throw GONE;
      if (this._output === 0) this._output = outputOf(this._body);
      const allowed = room(this._output);
      if (allowed > 0) return allowed;
      if (allowed < 0) this._gone();
      this._pollable = subscribeOutput(this._output);
      await ready(this._pollable);
      this._pollable = 0;
    }
  }

  _gone() {
    this.close();
    throw GONE;
  }

  // Ends it well.
  end() {
    if (this._body === 0) throw GONE;
    open.delete(this);
    if (this._output !== 0) dropOutput(this._output);
    const body = this._body;
    this._body = 0;
    finish(body);
  }

  close() {
    if (this._body === 0) return;
    open.delete(this);
    if (this._pollable !== 0) giveUp(this._pollable, broken());
    if (this._output !== 0) dropOutput(this._output);
    dropOutgoingBody(this._body);
    this._body = this._output = 0;
  }
}

const encoder = new TextEncoder();

// Writes bytes to a body and ends it. What fits at once goes at once; else gives a promise of the rest. A receiver that
// has gone is no error.
export function sendBytes(body, bytes) {
  const output = outputOf(body);
  if (bytes.length > room(output)) return pump(new Sink(body, output), bytes);
  const wrote = write(output, bytes, 0, bytes.length);
  dropOutput(output);
  if (wrote === 0) finish(body);
  else dropOutgoingBody(body);
  return undefined;
}

// The same for a body of any kind (see `body.js`).
export function sendBody(body, content) {
  if (content === null || content.length === 0) {
    finish(body);
    return undefined;
  }
  if (typeof content === 'string') return sendBytes(body, encoder.encode(content));
  if (content instanceof Uint8Array) return sendBytes(body, content);
  return pump(new Sink(body), content);
}

// All bytes of a stream.
export async function collectStream(stream) {
  const reader = stream.getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!(value instanceof Uint8Array)) throw new TypeError('a body is made of Uint8Arrays');
    chunks.push(value);
    length += value.length;
  }
  return concat(chunks, length);
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
