// What Request and Response have in common: a body, kept as it was given until somebody asks for it in another form
// (Fetch, section "Body mixin"). Kinds: null, a string, a Uint8Array of its own, a ReadableStream, a HostBody, or UNSEEN.
//
// The properties that begin with `_` are the runtime's. They are no private ones, and there is no class above these two,
// since each private field costs the engine, an interpreter, more than all the rest of an object.

import { collectStream, HostBody } from './host-body.js';
import { formOf, multipart } from './platform.js';

const NativeResponse = globalThis.Response;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

// Of a request that came in and nobody has looked at: its owner's `_seen` gives what it is.
export const UNSEEN = Symbol('unseen');

const viewOf = (given) => {
  if (given instanceof Uint8Array) return given;
  if (ArrayBuffer.isView(given)) return new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  return new Uint8Array(given);
};

// The kind and the content type of what may be given as a body (Fetch, "extract a body"), and the length of a stream, where it
// is known.
export function extract(given) {
  if (given === null || given === undefined) return [null, null];
  if (typeof given === 'string') return [given, 'text/plain;charset=UTF-8'];
  if (given instanceof ReadableStream) {
    if (isUnusable(given)) throw new TypeError('the body is a stream that is locked or was read from');
    return [given, null];
  }
  if (ArrayBuffer.isView(given) || given instanceof ArrayBuffer) return [viewOf(given).slice(), null];
  if (given instanceof URLSearchParams) {
    return [given.toString(), 'application/x-www-form-urlencoded;charset=UTF-8'];
  }
  if (given instanceof Blob) return [given.stream(), given.type === '' ? null : given.type, given.size];
  if (given instanceof FormData) {
    const [blob, type] = multipart(given);
    return [blob.stream(), type, blob.size];
  }
  return [String(given), 'text/plain;charset=UTF-8'];
}

// The engine alone knows whether a stream was read from; its own Response takes none that was, nor a locked one.
function isUnusable(stream) {
  if (stream.locked) return true;
  try {
    new NativeResponse(stream);
    return false;
  } catch {
    return true;
  }
}

// A stream of bytes that are there already. `taken` is told when somebody reads.
const streamOf = (bytes, taken) =>
  new ReadableStream(
    {
      pull(controller) {
        taken();
        if (bytes.length > 0) controller.enqueue(bytes);
        controller.close();
      },
      cancel: taken,
    },
    { highWaterMark: 0 },
  );

const kindOf = (owner) => (owner._body === UNSEEN ? (owner._body = owner._seen()) : owner._body);

const usable = (owner) => {
  const body = kindOf(owner);
  if (body !== null && (owner._used || (body instanceof ReadableStream && isUnusable(body)))) {
    throw new TypeError('the body was used already, or is locked');
  }
  return body;
};

// The body as it is, for somebody who uses it up.
export function takeBody(owner) {
  const body = owner._body;
  if (typeof body === 'string' && !owner._used) {
    owner._used = true;
    return body;
  }
  const usableBody = usable(owner);
  if (usableBody !== null) owner._used = true;
  return usableBody;
}

// The body for a second owner, beside the first.
export function shareBody(owner) {
  let body = usable(owner);
  if (body === null || typeof body === 'string') return body;
  if (body instanceof Uint8Array) return body.slice();
  if (body instanceof HostBody) body = body.stream(() => {});
  const [one, other] = body.tee();
  owner._body = one;
  return other;
}

const collect = (body) => (body instanceof HostBody ? body.collect() : collectStream(body));

const methods = {
  get body() {
    const body = kindOf(this);
    if (body === null || body instanceof ReadableStream) return body;
    const taken = () => {
      this._used = true;
    };
    if (body instanceof HostBody) return (this._body = body.stream(taken));
    return (this._body = streamOf(typeof body === 'string' ? encoder.encode(body) : body, taken));
  },

  get bodyUsed() {
    const body = kindOf(this);
    return this._used || (body instanceof ReadableStream && !body.locked && isUnusable(body));
  },

  async bytes() {
    const body = takeBody(this);
    if (body === null) return new Uint8Array(0);
    if (typeof body === 'string') return encoder.encode(body);
    return body instanceof Uint8Array ? body : collect(body);
  },

  async text() {
    const body = takeBody(this);
    if (body === null) return '';
    // Through UTF-8 only where that would change it: a mark at its beginning goes, and halves of pairs.
    if (typeof body === 'string') {
      return body.charCodeAt(0) !== 0xfeff && body.isWellFormed() ? body : decoder.decode(encoder.encode(body));
    }
    return decoder.decode(body instanceof Uint8Array ? body : await collect(body));
  },

  async json() {
    return JSON.parse(await this.text());
  },

  async arrayBuffer() {
    const bytes = await this.bytes();
    return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
  },

  async blob() {
    const bytes = await this.bytes();
    return new Blob([bytes], { type: this.headers.get('content-type') ?? '' });
  },

  async formData() {
    const type = this.headers.get('content-type') ?? '';
    if (/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type)) {
      const form = new FormData();
      for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
      return form;
    }
    if (!/^multipart\/form-data\s*;/i.test(type)) throw new TypeError(`a body of type "${type}" is no form`);
    return formOf(await this.bytes(), type);
  },
};

// Gives a class the body's methods.
export function mixin(Owner, name) {
  for (const [key, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(methods))) {
    Object.defineProperty(Owner.prototype, key, { ...descriptor, enumerable: true });
  }
  // Bundling may have renamed it.
  Object.defineProperty(Owner, 'name', { value: name, configurable: true });
  Object.defineProperty(Owner.prototype, Symbol.toStringTag, { value: name, configurable: true });
}
