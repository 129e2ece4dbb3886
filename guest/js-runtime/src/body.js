// What Request and Response have in common: a body, kept as it was given until somebody asks for it in another form
// (Fetch, section "Body mixin"). Kinds: null, a string, a Uint8Array of its own, a ReadableStream, a HostBody, or UNSEEN.
//
// The functions take what INNER of a Request or Response holds. There is no class above these two, since that costs the
// engine more than all the rest of an object.

import { withType } from './blob.js';
import { formOf, multipart, urlencodedFormOf } from './forms.js';
import { collectStream, HostBody, sourceOf } from './host-body.js';
import { mimeOf, serializeMime } from './mime.js';
import { INNER } from './shape.js';
import { branches, contentOf, isDisturbed, isUnusable, spend, streamOf } from './streams.js';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// Of a request that came in and nobody has looked at: `seen` gives what it is.
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
  return [`${given}`, 'text/plain;charset=UTF-8'];
}

const kindOf = (inner) => (inner.body === UNSEEN ? (inner.body = inner.seen(inner)) : inner.body);

const usable = (inner) => {
  const body = kindOf(inner);
  if (body !== null && (inner.used || (body instanceof ReadableStream && isUnusable(body)))) {
    throw new TypeError('the body was used already, or is locked');
  }
  return body;
};

// The body as it is, for somebody who uses it up.
export function takeBody(inner) {
  const { body } = inner;
  if (typeof body === 'string' && !inner.used) {
    inner.used = true;
    return body;
  }
  const usableBody = usable(inner);
  if (usableBody === null) return null;
  inner.used = true;
  // What a stream of the host would give is read without it, and so is content that is there.
  const source = usableBody instanceof ReadableStream ? (contentOf(usableBody) ?? sourceOf(usableBody)) : undefined;
  if (source === undefined) return usableBody;
  spend(usableBody);
  return source;
}

// The body for another owner, in the place of the first. A stream that the first has shown stays there, locked.
export function passBody(inner) {
  const body = takeBody(inner);
  return body instanceof ReadableStream ? body.pipeThrough(new TransformStream()) : body;
}

// The body for a second owner, beside the first.
export function shareBody(inner) {
  let body = usable(inner);
  if (body === null || typeof body === 'string') return body;
  if (body instanceof Uint8Array) return body.slice();
  if (body instanceof HostBody) body = body.stream();
  const [one, other] = branches(body);
  inner.body = one;
  return other;
}

const collect = (body) => (body instanceof HostBody ? body.collect() : collectStream(body));

const bytesOf = (body) => {
  if (body === null) return new Uint8Array(0);
  if (typeof body === 'string') return encoder.encode(body);
  return body instanceof Uint8Array ? body : collect(body);
};

const methods = {
  get body() {
    const inner = this[INNER];
    const body = kindOf(inner);
    if (body === null || body instanceof ReadableStream) return body;
    if (inner.used) return (inner.body = spend(new ReadableStream()));
    if (body instanceof HostBody) return (inner.body = body.stream());
    return (inner.body = streamOf(body));
  },

  get bodyUsed() {
    const inner = this[INNER];
    const body = kindOf(inner);
    return body !== null && (inner.used === true || (body instanceof ReadableStream && isDisturbed(body)));
  },

  async bytes() {
    return bytesOf(takeBody(this[INNER]));
  },

  async text() {
    const body = takeBody(this[INNER]);
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
    const bytes = await bytesOf(takeBody(this[INNER]));
    return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
  },

  async blob() {
    const bytes = await bytesOf(takeBody(this[INNER]));
    const type = mimeOf(this.headers);
    const text = type === null ? '' : serializeMime(type);
    // A FormData asks the engine for the type, not the runtime.
    return withType(new Blob([bytes], { type: text }), text);
  },

  async formData() {
    const bytes = await bytesOf(takeBody(this[INNER]));
    const type = mimeOf(this.headers);
    if (type?.essence === 'application/x-www-form-urlencoded') return urlencodedFormOf(bytes);
    if (type?.essence === 'multipart/form-data') return formOf(bytes, type.parameters.get('boundary'));
    throw new TypeError(`a body of type "${type === null ? '' : serializeMime(type)}" is no form`);
  },
};

// Gives a class the body's methods.
export const mixin = (Owner) => Object.defineProperties(Owner.prototype, Object.getOwnPropertyDescriptors(methods));
