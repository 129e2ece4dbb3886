// What Request and Response have in common: a body, kept as it was given until somebody asks for it in another form
// (Fetch, section "Body mixin"). Kinds: null, a string, a Uint8Array of its own, a ReadableStream, or a HostBody.

import { concat, HostBody } from './host-body.js';

const NativeResponse = globalThis.Response;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const viewOf = (given) => {
  if (given instanceof Uint8Array) return given;
  if (ArrayBuffer.isView(given)) return new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  return new Uint8Array(given);
};

// The kind and the content type of what may be given as a body (Fetch, "extract a body").
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
  if (given instanceof Blob || given instanceof FormData) {
    const native = new NativeResponse(given);
    const type = native.headers.get('content-type');
    return [native.body, type === '' ? null : type];
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

// All bytes of a stream.
async function collect(stream) {
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

export class Body {
  #body;
  #used = false;

  constructor(body) {
    this.#body = body;
  }

  get body() {
    const body = this.#body;
    if (body === null || body instanceof ReadableStream) return body;
    const taken = () => {
      this.#used = true;
    };
    if (body instanceof HostBody) return (this.#body = body.stream(taken));
    return (this.#body = streamOf(typeof body === 'string' ? encoder.encode(body) : body, taken));
  }

  get bodyUsed() {
    const body = this.#body;
    return this.#used || (body instanceof ReadableStream && !body.locked && isUnusable(body));
  }

  static give(owner, body) {
    owner.#body = body;
  }

  // The body as it is, for somebody who uses it up.
  static take(owner) {
    const body = owner.#body;
    if (body === null) return null;
    if (owner.#used || (body instanceof ReadableStream && isUnusable(body))) {
      throw new TypeError('the body was used already, or is locked');
    }
    owner.#used = true;
    return body;
  }

  // The body for a second owner, beside the first.
  static share(owner) {
    let body = owner.#body;
    if (body === null) return null;
    if (owner.#used || (body instanceof ReadableStream && isUnusable(body))) {
      throw new TypeError('the body was used already, or is locked');
    }
    if (typeof body === 'string') return body;
    if (body instanceof Uint8Array) return body.slice();
    if (body instanceof HostBody) body = body.stream(() => {});
    const [one, other] = body.tee();
    owner.#body = one;
    return other;
  }

  async bytes() {
    const body = Body.take(this);
    if (body === null) return new Uint8Array(0);
    if (typeof body === 'string') return encoder.encode(body);
    if (body instanceof Uint8Array) return body;
    return body instanceof HostBody ? body.collect() : collect(body);
  }

  async text() {
    const body = Body.take(this);
    if (body === null) return '';
    // Through UTF-8 only where that would change it: a mark at its beginning goes, and halves of pairs.
    if (typeof body === 'string' && body.charCodeAt(0) !== 0xfeff && body.isWellFormed()) return body;
    if (typeof body === 'string') return decoder.decode(encoder.encode(body));
    if (body instanceof Uint8Array) return decoder.decode(body);
    return decoder.decode(await (body instanceof HostBody ? body.collect() : collect(body)));
  }

  async json() {
    return JSON.parse(await this.text());
  }

  async arrayBuffer() {
    const bytes = await this.bytes();
    return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
  }

  async blob() {
    const bytes = await this.bytes();
    return new Blob([bytes], { type: this.headers.get('content-type') ?? '' });
  }

  async formData() {
    const type = this.headers.get('content-type') ?? '';
    if (/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type)) {
      const form = new FormData();
      for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
      return form;
    }
    if (!/^multipart\/form-data\s*;/i.test(type)) throw new TypeError(`a body of type "${type}" is no form`);
    return new NativeResponse(await this.bytes(), { headers: { 'content-type': type } }).formData();
  }
}
