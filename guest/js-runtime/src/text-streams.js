// TextEncoderStream and TextDecoderStream (Encoding, section 7).

import { INNER, provide, shape } from './shape.js';
import { mixSides } from './streams.js';

class TextEncoderStream {
  constructor() {
    const encoder = new TextEncoder();
    let half = '';
    const stream = new TransformStream({
      transform(chunk, controller) {
        let text = `${half}${chunk}`;
        // Half of a pair waits for the other.
        half = /[\ud800-\udbff]$/.test(text) ? text.slice(-1) : '';
        if (half !== '') text = text.slice(0, -1);
        if (text !== '') controller.enqueue(encoder.encode(text));
      },
      flush(controller) {
        if (half !== '') controller.enqueue(encoder.encode(half));
      },
    });
    this[INNER] = { stream };
  }

  get encoding() {
    if (this[INNER].stream === undefined) throw new TypeError('this is no TextEncoderStream');
    return 'utf-8';
  }
}

class TextDecoderStream {
  constructor(label = 'utf-8', options = {}) {
    const decoder = new TextDecoder(label, options ?? {});
    const stream = new TransformStream({
      transform(chunk, controller) {
        if (!ArrayBuffer.isView(chunk) && !(chunk instanceof ArrayBuffer)) throw new TypeError('a TextDecoderStream takes bytes');
        const text = decoder.decode(chunk, { stream: true });
        if (text !== '') controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.decode();
        if (text !== '') controller.enqueue(text);
      },
    });
    this[INNER] = { stream, decoder };
  }

  get encoding() {
    return this[INNER].decoder.encoding;
  }

  get fatal() {
    return this[INNER].decoder.fatal;
  }

  get ignoreBOM() {
    return this[INNER].decoder.ignoreBOM;
  }
}

for (const Interface of [TextEncoderStream, TextDecoderStream]) {
  const name = Interface === TextEncoderStream ? 'TextEncoderStream' : 'TextDecoderStream';
  mixSides(Interface);
  shape(Interface, name);
  provide(name, Interface);
}
