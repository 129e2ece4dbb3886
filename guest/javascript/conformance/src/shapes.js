// The shape of interfaces (Web IDL): names, class strings, enumerable members, brands.

import { about, check, equal, ok, throws } from './check.js';

const classOf = (value) => Object.prototype.toString.call(value);

about('shapes of interfaces');
check('names and class strings', () => {
  const { signal } = new AbortController();
  const { port1 } = new MessageChannel();
  for (const [name, value] of Object.entries({
    AbortController: new AbortController(), AbortSignal: signal, Blob: new Blob([]), CompressionStream: new CompressionStream('gzip'),
    DecompressionStream: new DecompressionStream('gzip'), Event: new Event('x'), EventTarget: new EventTarget(), File: new File([], 'x'),
    FormData: new FormData(), Headers: new Headers(), MessagePort: port1, Performance: performance, ReadableStream: new ReadableStream(),
    Request: new Request('http://a.test'), Response: new Response(), TextDecoder: new TextDecoder(), TextEncoder: new TextEncoder(),
    TextDecoderStream: new TextDecoderStream(), TextEncoderStream: new TextEncoderStream(), TransformStream: new TransformStream(),
    URL: new URL('http://a.test'), URLSearchParams: new URLSearchParams(), WritableStream: new WritableStream(),
  })) {
    equal([name, globalThis[name]?.name, classOf(value)], [name, name, `[object ${name}]`]);
    ok(value instanceof globalThis[name] && value.constructor === globalThis[name]);
  }
  for (const name of ['fetch', 'structuredClone', 'queueMicrotask', 'setTimeout', 'reportError', 'atob']) ok(typeof globalThis[name] === 'function');
  equal(['fetch', 'structuredClone', 'queueMicrotask'].map((name) => globalThis[name].name), ['fetch', 'structuredClone', 'queueMicrotask']);
});
check('members are enumerable', () => {
  for (const [Interface, members] of [
    [URL, ['href', 'origin', 'host', 'searchParams', 'toJSON', 'toString']], [Request, ['method', 'url', 'headers', 'body', 'mode', 'clone', 'json']],
    [Response, ['status', 'ok', 'headers', 'body', 'clone', 'text']], [AbortSignal, ['aborted', 'reason', 'onabort', 'throwIfAborted']],
    [AbortController, ['signal', 'abort']], [Headers, ['append', 'get', 'getSetCookie']], [FormData, ['append', 'getAll']],
    [URLSearchParams, ['append', 'sort']], [EventTarget, ['addEventListener', 'dispatchEvent']], [Blob, ['size', 'type', 'slice', 'stream']],
    [ReadableStream, ['locked', 'pipeTo', 'tee']], [Performance, ['now', 'mark', 'timeOrigin', 'toJSON', 'getEntries']],
    [TextDecoderStream, ['fatal', 'ignoreBOM', 'encoding', 'readable', 'writable']],
  ]) {
    for (const member of members) {
      equal([Interface.name, member, Object.getOwnPropertyDescriptor(Interface.prototype, member)?.enumerable], [Interface.name, member, true]);
    }
  }
  for (const [Interface, member] of [[URL, 'canParse'], [URL, 'createObjectURL'], [Response, 'json'], [AbortSignal, 'any']]) {
    ok(Object.getOwnPropertyDescriptor(Interface, member).enumerable);
  }
});
check('lengths and names of functions', () => {
  equal([URL.length, Request.length, Response.length, Blob.length, File.length, AbortController.length], [1, 1, 0, 0, 2, 0]);
  equal([URL.canParse.length, URL.parse.length, Response.json.length, AbortSignal.abort.length, AbortController.prototype.abort.length], [1, 1, 1, 0, 0]);
  const { get, set } = Object.getOwnPropertyDescriptor(URL.prototype, 'host');
  equal([get.name, set.name], ['get host', 'set host']);
});
check('iterators, forEach, and console.assert', () => {
  for (const [one, name] of [[new Headers(), 'Headers'], [new FormData(), 'FormData'], [new URLSearchParams(), 'URLSearchParams']]) {
    equal([classOf(one.entries()), one.forEach.length], [`[object ${name} Iterator]`, 1]);
  }
  equal([URLSearchParams.length, console.assert.length], [0, 0]);
});
check('Error.isError: of a DOMException', () => {
  equal([new DOMException(), new RangeError(), {}, Object.create(Error.prototype)].map(Error.isError), [true, true, false, false]);
});
check('toString of what is no URL is a TypeError', async () => {
  for (const name of ['toString', 'toJSON']) await throws('TypeError', () => URL.prototype[name].call({ href: 'x' }));
});
check('too few arguments are a TypeError', async () => {
  for (const run of [() => new URL(), () => URL.parse(), () => URL.canParse(), () => new Request(), () => new File([]), () => structuredClone()]) {
    await throws('TypeError', run);
  }
});
check('nothing of the runtime shows: keys and JSON', ({ request, ctx }) => {
  const response = new Response('x', { headers: { a: 'b' } });
  const url = new URL('http://a.test/x');
  for (const value of [request, response, new Request('http://a.test'), url, new AbortController(), new AbortController().signal, ctx]) {
    equal(Object.keys(value), []);
  }
  equal([JSON.stringify({ request }), JSON.stringify(response), JSON.stringify(url)], ['{"request":{}}', '{}', '"http://a.test/x"']);
});
check('getters on what is no such object are a TypeError', async () => {
  for (const [Interface, names] of [
    [Request, ['method', 'url', 'headers', 'body', 'bodyUsed', 'signal', 'mode', 'redirect']],
    [Response, ['status', 'ok', 'headers', 'body', 'bodyUsed', 'type', 'url']], [URL, ['href', 'host', 'pathname', 'search', 'hash', 'origin']],
    [AbortSignal, ['aborted', 'reason', 'onabort']], [AbortController, ['signal']], [Performance, ['timeOrigin']], [TextDecoderStream, ['fatal', 'readable']],
  ]) {
    for (const name of names) {
      const { get } = Object.getOwnPropertyDescriptor(Interface.prototype, name);
      for (const other of [{}, Interface.prototype, Object.create(Interface.prototype), undefined, 1]) {
        await throws('TypeError', () => get.call(other));
      }
    }
  }
});
check('methods on what is no such object reject with a TypeError', async () => {
  for (const name of ['text', 'json', 'bytes', 'arrayBuffer', 'blob', 'formData']) {
    for (const Interface of [Request, Response]) {
      const promise = Interface.prototype[name].call({});
      ok(promise instanceof Promise);
      await throws('TypeError', () => promise);
    }
  }
});
check('console: members are enumerable', () => {
  for (const name of ['log', 'error', 'assert', 'table', 'time']) ok(Object.getOwnPropertyDescriptor(console, name).enumerable);
  equal(classOf(console), '[object console]');
});
check('classes that extend Blob, File, URL, Request, Response, EventTarget', async () => {
  for (const [Interface, ...args] of [[Blob, ['x']], [File, ['x'], 'n'], [URL, 'http://a.test'], [Request, 'http://a.test'], [Response, 'x'], [EventTarget]]) {
    class Extended extends Interface {
      more() {
        return 1;
      }
    }
    const made = new Extended(...args);
    ok(made instanceof Extended && made instanceof Interface && made.more() === 1);
  }
});
check('XMLHttpRequest, FileReader', () => equal([typeof XMLHttpRequest, typeof FileReader], ['function', 'function']));
check('Event: isTrusted is of the event itself', () => ok(Object.hasOwn(new Event('x'), 'isTrusted')));
check('operations of the global object are enumerable, and interfaces are not', () => {
  const isEnumerable = (name) => Object.getOwnPropertyDescriptor(globalThis, name).enumerable;
  equal(['fetch', 'setTimeout', 'atob', 'structuredClone', 'Request', 'URL', 'Blob', 'ReadableStream'].map(isEnumerable), [true, true, true, true, false, false, false, false]);
});
check('File extends Blob, and methods of what is no Blob reject', async () => {
  ok(Object.getPrototypeOf(File) === Blob && Object.getPrototypeOf(File.prototype) === Blob.prototype);
  for (const name of ['arrayBuffer', 'bytes', 'text']) {
    const promise = Blob.prototype[name].call({});
    ok(promise instanceof Promise);
    await throws('TypeError', () => promise);
  }
  await throws('TypeError', () => Blob.prototype.stream.call({}));
});
check('interfaces: length and name come before prototype', () => equal(Object.getOwnPropertyNames(Blob).slice(0, 3), ['length', 'name', 'prototype']));
check('QuotaExceededError is a class', () => equal(typeof QuotaExceededError, 'function'));
check('the global object keeps its prototype', async () => {
  const prototype = Object.getPrototypeOf(globalThis);
  try {
    await throws('TypeError', () => Object.setPrototypeOf(globalThis, Object.create(prototype)));
  } finally {
    Object.setPrototypeOf(globalThis, prototype);
  }
});
