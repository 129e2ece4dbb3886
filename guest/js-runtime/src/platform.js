// What the engine lacks of the platform, or does in another way than the standards say, where a few lines mend it.

import { describe, isError } from './errors.js';

const define = (target, name, value) =>
  Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });

// HTML, section "Base64 utility methods": the error's name.
for (const name of ['atob', 'btoa']) {
  const native = globalThis[name];
  define(globalThis, name, (text) => {
    try {
      return native(text);
    } catch {
      throw new DOMException(`${name} cannot take this text`, 'InvalidCharacterError');
    }
  });
}

// Streams, section "Asynchronous iteration".
if (ReadableStream.prototype[Symbol.asyncIterator] === undefined) {
  const values = function ({ preventCancel = false } = {}) {
    const reader = this.getReader();
    return {
      async next() {
        const result = await reader.read();
        if (result.done) reader.releaseLock();
        return result;
      },
      async return(value) {
        if (!preventCancel) await reader.cancel(value);
        reader.releaseLock();
        return { done: true, value };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  };
  define(ReadableStream.prototype, 'values', values);
  define(ReadableStream.prototype, Symbol.asyncIterator, values);
}
if (ReadableStream.from === undefined) {
  define(ReadableStream, 'from', (source) => {
    const iterator = source[Symbol.asyncIterator]?.() ?? source[Symbol.iterator]();
    return new ReadableStream(
      {
        async pull(controller) {
          const { done, value } = await iterator.next();
          if (done) controller.close();
          else controller.enqueue(await value);
        },
        async cancel(reason) {
          await iterator.return?.(reason);
        },
      },
      { highWaterMark: 0 },
    );
  });
}

// The engine's takes no signal.
const pipeTo = ReadableStream.prototype.pipeTo;
define(ReadableStream.prototype, 'pipeTo', function (target, options) {
  return options?.signal === undefined ? pipeTo.call(this, target, options) : pipe(this, target, options);
});

async function pipe(source, target, { signal, preventClose, preventAbort, preventCancel }) {
  const reader = source.getReader();
  const writer = target.getWriter();
  let stop;
  const stopped = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop);
  });
  // Who it ends for is told below.
  stopped.catch(() => {});
  try {
    for (;;) {
      await Promise.race([writer.ready, stopped]);
      const { done, value } = await Promise.race([reader.read(), stopped]);
      if (done) break;
      writer.write(value).catch(() => {});
    }
    if (!preventClose) await writer.close();
  } catch (error) {
    const ends = [];
    if (!preventAbort) ends.push(writer.abort(error));
    if (!preventCancel) ends.push(reader.cancel(error));
    await Promise.allSettled(ends);
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    reader.releaseLock();
    writer.releaseLock();
  }
}

// Encoding, section "Streams".
if (globalThis.TextEncoderStream === undefined) {
  class Coded {
    constructor(transformer) {
      const { readable, writable } = new TransformStream(transformer);
      this.readable = readable;
      this.writable = writable;
    }
  }
  define(
    globalThis,
    'TextEncoderStream',
    class TextEncoderStream extends Coded {
      constructor() {
        const encoder = new TextEncoder();
        let half = '';
        super({
          transform(chunk, controller) {
            let text = half + String(chunk);
            // Half of a pair waits for the other.
            half = /[\ud800-\udbff]$/.test(text) ? text.slice(-1) : '';
            if (half !== '') text = text.slice(0, -1);
            if (text !== '') controller.enqueue(encoder.encode(text));
          },
          flush(controller) {
            if (half !== '') controller.enqueue(encoder.encode(half));
          },
        });
        this.encoding = 'utf-8';
      }
    },
  );
  define(
    globalThis,
    'TextDecoderStream',
    class TextDecoderStream extends Coded {
      constructor(label, options) {
        const decoder = new TextDecoder(label, options);
        super({
          transform(chunk, controller) {
            const text = decoder.decode(chunk, { stream: true });
            if (text !== '') controller.enqueue(text);
          },
          flush(controller) {
            const text = decoder.decode();
            if (text !== '') controller.enqueue(text);
          },
        });
        this.encoding = decoder.encoding;
      }
    },
  );
}

// The engine's reads in its own loop, beside `loop.js`.
define(Blob.prototype, 'stream', function () {
  return new ReadableStream(
    {
      pull: async (controller) => {
        const buffer = await this.arrayBuffer();
        if (buffer.byteLength > 0) controller.enqueue(new Uint8Array(buffer));
        controller.close();
      },
    },
    { highWaterMark: 0 },
  );
});

// The engine's shows an error without its stack and cause.
for (const name of ['debug', 'error', 'info', 'log', 'warn']) {
  const native = console[name];
  define(console, name, (...args) => native.apply(console, args.some(isError) ? args.map((arg) => (isError(arg) ? describe(arg) : arg)) : args));
}

// The engine's prints nothing.
define(console, 'assert', (holds, ...args) => {
  if (!holds) console.error('Assertion failed', ...args);
});

if (globalThis.navigator === undefined) define(globalThis, 'navigator', Object.freeze({ userAgent: 'wasmhost' }));

// The engine's is of the time of the build.
let origin;
Object.defineProperty(performance, 'timeOrigin', { get: () => (origin ??= Date.now() - performance.now()), configurable: true });

// A form as multipart/form-data (RFC 7578): its bytes, as a Blob, and its type.
export function multipart(form) {
  const boundary = `----form-${crypto.randomUUID()}`;
  const quoted = (name) => name.replace(/\n|\r\n?/g, '\r\n').replace(/["\r\n]/g, (c) => ({ '"': '%22', '\r': '%0D', '\n': '%0A' })[c]);
  const parts = [];
  for (const [name, value] of form) {
    const head = `--${boundary}\r\ncontent-disposition: form-data; name="${quoted(name)}"`;
    if (typeof value === 'string') parts.push(`${head}\r\n\r\n${value.replace(/\r?\n|\r/g, '\r\n')}\r\n`);
    else parts.push(`${head}; filename="${quoted(value.name)}"\r\ncontent-type: ${value.type || 'application/octet-stream'}\r\n\r\n`, value, '\r\n');
  }
  parts.push(`--${boundary}--\r\n`);
  return [new Blob(parts), `multipart/form-data; boundary=${boundary}`];
}

// What a data URL holds (Fetch, "data: URL processor"): its bytes and type, or null.
export function dataOf(url) {
  const comma = url.href.indexOf(',');
  if (comma < 0) return null;
  const meta = url.href.slice('data:'.length, comma).trim();
  let text = decodeURIComponent(url.href.slice(comma + 1).replace(/#.*$/, '').replace(/%(?![0-9a-f]{2})/gi, '%25'));
  const isBase64 = /;\s*base64$/i.test(meta);
  const type = isBase64 ? meta.replace(/;\s*base64$/i, '') : meta;
  if (isBase64) text = atob(text);
  const bytes = isBase64 ? Uint8Array.from(text, (char) => char.charCodeAt(0)) : new TextEncoder().encode(text);
  return { bytes, type: type === '' ? 'text/plain;charset=US-ASCII' : type.startsWith(';') ? `text/plain${type}` : type };
}

// The form that bytes of multipart/form-data hold. (The engine's parser puts other contents into the files.)
export function formOf(bytes, type) {
  const invalid = () => new TypeError('the body is no form of multipart/form-data');
  const [, quotedName, plainName] = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(type) ?? [];
  const boundary = quotedName ?? plainName;
  if (boundary === undefined) throw invalid();
  const decoder = new TextDecoder();
  // One character a byte, to search in.
  const text = new TextDecoder('latin1').decode(bytes);
  const delimiter = `--${boundary}`;
  const unquoted = (name) => name.replace(/%22|%0D|%0A/gi, decodeURIComponent);
  const form = new FormData();
  let at = text.indexOf(delimiter);
  for (;;) {
    if (at < 0) throw invalid();
    at += delimiter.length;
    if (text.startsWith('--', at)) return form;
    const begin = text.indexOf('\r\n\r\n', at) + 4;
    const end = text.indexOf(`\r\n${delimiter}`, begin);
    if (begin < 4 || end < 0) throw invalid();
    const head = decoder.decode(bytes.subarray(at, begin));
    const name = /^content-disposition:\s*form-data\s*;.*?[;\s]name="([^"]*)"/im.exec(head)?.[1];
    if (name === undefined) throw invalid();
    const file = /^content-disposition:.*[;\s]filename="([^"]*)"/im.exec(head)?.[1];
    const content = bytes.subarray(begin, end);
    if (file === undefined) {
      form.append(unquoted(name), decoder.decode(content));
    } else {
      const kind = /^content-type:\s*(\S.*?)\s*$/im.exec(head)?.[1] ?? 'text/plain';
      form.append(unquoted(name), new File([content], unquoted(file), { type: kind }));
    }
    at = end + 2;
  }
}
