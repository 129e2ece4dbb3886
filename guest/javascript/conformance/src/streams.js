// Streams.

import { about, check, equal, ok, throws } from './check.js';

const numbers = (count) =>
  new ReadableStream({
    start(controller) {
      for (let n = 1; n <= count; n++) controller.enqueue(n);
      controller.close();
    },
  });
async function all(stream) {
  const reader = stream.getReader();
  const chunks = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return chunks;
    chunks.push(value);
  }
}

about('streams');
check('ReadableStream: start, enqueue, close', async () => equal(await all(numbers(3)), [1, 2, 3]));
check('ReadableStream: pull comes as somebody reads', async () => {
  let pulled = 0;
  const stream = new ReadableStream({ pull(controller) { controller.enqueue(++pulled); } }, { highWaterMark: 0 });
  equal(pulled, 0);
  const reader = stream.getReader();
  equal([(await reader.read()).value, (await reader.read()).value, pulled], [1, 2, 2]);
});
check('ReadableStream: cancel tells the source', async () => {
  let reason;
  await new ReadableStream({ cancel(given) { reason = given; } }).cancel('enough');
  equal(reason, 'enough');
});
check('ReadableStream: error', () => throws('RangeError', () => all(new ReadableStream({ start(c) { c.error(new RangeError('x')); } }))));
check('ReadableStream: locked by a reader, freed by releaseLock', () => {
  const stream = numbers(1);
  const reader = stream.getReader();
  ok(stream.locked);
  reader.releaseLock();
  ok(!stream.locked);
});
check('ReadableStream: a second reader is a TypeError', () => {
  const stream = numbers(1);
  stream.getReader();
  return throws('TypeError', () => stream.getReader());
});
check('ReadableStream: desiredSize', () => {
  let size;
  new ReadableStream({ start(c) { c.enqueue(1); size = c.desiredSize; } }, { highWaterMark: 3 });
  equal(size, 2);
});
check('ReadableStream: closed', async () => {
  const reader = numbers(0).getReader();
  equal(await reader.closed, undefined);
});
check('ReadableStream: tee gives both all of it', async () => {
  const [one, other] = numbers(3).tee();
  equal([await all(one), await all(other)], [[1, 2, 3], [1, 2, 3]]);
});
check('ReadableStream: asynchronous iteration', async () => {
  const chunks = [];
  for await (const chunk of numbers(3)) chunks.push(chunk);
  equal(chunks, [1, 2, 3]);
});
check('ReadableStream: leaving an iteration cancels', async () => {
  let cancelled = false;
  const stream = new ReadableStream({ pull(c) { c.enqueue(1); }, cancel() { cancelled = true; } });
  for await (const _ of stream) break;
  ok(cancelled);
});
check('ReadableStream.from', async () => equal(await all(ReadableStream.from([1, 2])), [1, 2]));
check('ReadableStream: bytes, a BYOB reader', async () => {
  const stream = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(new Uint8Array([1, 2, 3])); c.close(); } });
  const { value } = await stream.getReader({ mode: 'byob' }).read(new Uint8Array(2));
  equal([...value], [1, 2]);
});
check('ReadableStream: bytes, a default reader', async () => {
  const stream = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(new Uint8Array([1, 2])); c.close(); } });
  equal((await all(stream)).map((chunk) => [...chunk]), [[1, 2]]);
});
check('WritableStream: write and close reach the sink in order', async () => {
  const seen = [];
  const writer = new WritableStream({ write(chunk) { seen.push(chunk); }, close() { seen.push('end'); } }).getWriter();
  writer.write(1);
  writer.write(2);
  await writer.close();
  equal(seen, [1, 2, 'end']);
});
check('WritableStream: abort', async () => {
  let reason;
  await new WritableStream({ abort(given) { reason = given; } }).abort('stop');
  equal(reason, 'stop');
});
check('WritableStream: ready waits for room', async () => {
  let go;
  const writer = new WritableStream({ write: () => new Promise((resolve) => { go = resolve; }) }, { highWaterMark: 1 }).getWriter();
  await writer.ready;
  writer.write(1);
  equal(writer.desiredSize, 0);
  await null;
  await new Promise((resolve) => setTimeout(resolve, 1));
  go();
  await writer.ready;
  equal(writer.desiredSize, 1);
});
check('WritableStream: an error of the sink', () =>
  throws('RangeError', () => new WritableStream({ write() { throw new RangeError('x'); } }).getWriter().write(1)));
check('pipeTo', async () => {
  const seen = [];
  await numbers(3).pipeTo(new WritableStream({ write(chunk) { seen.push(chunk); } }));
  equal(seen, [1, 2, 3]);
});
check('pipeTo: preventClose', async () => {
  let closed = false;
  await numbers(1).pipeTo(new WritableStream({ close() { closed = true; } }), { preventClose: true });
  equal(closed, false);
});
check('pipeTo: a signal breaks off', () => {
  const controller = new AbortController();
  const endless = new ReadableStream({ pull: () => new Promise(() => {}) });
  const piped = endless.pipeTo(new WritableStream(), { signal: controller.signal });
  controller.abort();
  return throws('AbortError', () => piped);
});
check('TransformStream: transform and flush', async () => {
  const doubled = new TransformStream({ transform(chunk, c) { c.enqueue(chunk * 2); }, flush(c) { c.enqueue('end'); } });
  equal(await all(numbers(2).pipeThrough(doubled)), [2, 4, 'end']);
});
check('TransformStream: as it is, hands on', async () => equal(await all(numbers(2).pipeThrough(new TransformStream())), [1, 2]));
check('TransformStream: an error in transform', () =>
  throws('RangeError', () => all(numbers(1).pipeThrough(new TransformStream({ transform() { throw new RangeError('x'); } })))));
check('TransformStream: terminate', async () =>
  equal(await all(numbers(9).pipeThrough(new TransformStream({ transform(n, c) { c.enqueue(n); if (n === 2) c.terminate(); } }))), [1, 2]));
check('TransformStream: as the body of a Response', async () => {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const written = writer.write(new TextEncoder().encode('ab')).then(() => writer.close());
  equal(await new Response(readable).text(), 'ab');
  await written;
});
check('a chain of three transforms', async () => {
  const add = (n) => new TransformStream({ transform(chunk, c) { c.enqueue(chunk + n); } });
  equal(await all(numbers(2).pipeThrough(add(1)).pipeThrough(add(10)).pipeThrough(add(100))), [112, 113]);
});
check('CountQueuingStrategy, ByteLengthQueuingStrategy', () => {
  equal([new CountQueuingStrategy({ highWaterMark: 3 }).highWaterMark, new ByteLengthQueuingStrategy({ highWaterMark: 4 }).highWaterMark], [3, 4]);
  equal([new CountQueuingStrategy({ highWaterMark: 3 }).size(), new ByteLengthQueuingStrategy({ highWaterMark: 4 }).size(new Uint8Array(5))], [1, 5]);
});
const FORMATS = ['gzip', 'deflate', 'deflate-raw', 'brotli'];
const packed = (text, format) => new Response(new Response(text).body.pipeThrough(new CompressionStream(format))).bytes();
const unpacked = (bytes, format) => new Response(bytes).body.pipeThrough(new DecompressionStream(format));
for (const format of FORMATS) {
  check(`CompressionStream, DecompressionStream: ${format}, there and back`, async () => {
    const text = 'abc'.repeat(100_000);
    const bytes = await packed(text, format);
    ok(bytes.length < 2000);
    ok((await new Response(unpacked(bytes, format)).text()) === text);
    equal(await new Response(unpacked(await packed('', format), format)).text(), '');
  });
}
check('DecompressionStream: what others have compressed', async () => {
  const of = async (format, base64) => new Response(unpacked(Uint8Array.from(atob(base64), (unit) => unit.charCodeAt(0)), format)).text();
  equal(await of('brotli', 'CwKAaGVsbG8D'), 'hello');
  equal(await of('deflate-raw', 'y0jNyckHAA=='), 'hello');
  // With a name and a comment in its head.
  equal(await of('gzip', 'H4sIGAAAAAAAA2EAYgDLSM3JyQcAhqYQNgUAAAA='), 'hello');
});
check('CompressionStream: chunks that are no bytes, and an unknown format', async () => {
  for (const chunk of [undefined, null, 1, 'x', {}]) {
    await throws('TypeError', () => all(new ReadableStream({ start(c) { c.enqueue(chunk); c.close(); } }).pipeThrough(new CompressionStream('gzip'))));
  }
  await throws('TypeError', () => new CompressionStream('nothing'));
  await throws('TypeError', () => new DecompressionStream());
});
check('DecompressionStream: what is no gzip is a TypeError', () =>
  throws('TypeError', () => all(new Response('no gzip at all').body.pipeThrough(new DecompressionStream('gzip')))));
check('DecompressionStream: input that breaks off is a TypeError', async () => {
  const packed = await new Response(new Response('abc').body.pipeThrough(new CompressionStream('deflate'))).bytes();
  await throws('TypeError', () => all(new Response(packed.slice(0, -5)).body.pipeThrough(new DecompressionStream('deflate'))));
});
check('DecompressionStream: any input that breaks off is a TypeError, and what is damaged at its end', async () => {
  const text = 'expected output '.repeat(40);
  for (const format of ['gzip', 'deflate', 'brotli']) {
    const bytes = await packed(text, format);
    const byByte = new ReadableStream({ start(c) { for (const byte of bytes) c.enqueue(new Uint8Array([byte])); c.close(); } });
    equal((await new Response(byByte.pipeThrough(new DecompressionStream(format))).text()) === text, true);
    for (let length = 0; length < bytes.length; length++) await throws('TypeError', () => all(unpacked(bytes.slice(0, length), format)));
    if (format === 'brotli') continue;
    bytes[bytes.length - 1] ^= 1;
    await throws('TypeError', () => all(unpacked(bytes, format)));
  }
});
check('DecompressionStream: leaving early, as from a bomb', async () => {
  const bomb = await packed('x'.repeat(3_000_000), 'gzip');
  let length = 0;
  for await (const chunk of unpacked(bomb, 'gzip')) {
    length += chunk.length;
    if (length > 100_000) break;
  }
  ok(length > 100_000 && length < 1_000_000);
});
check('DecompressionStream: deflate-raw that breaks off is a TypeError', async () => {
  const bytes = await packed('expected output', 'deflate-raw');
  for (let length = 0; length < bytes.length; length++) await throws('TypeError', () => all(unpacked(bytes.slice(0, length), 'deflate-raw')));
});
check('DecompressionStream: input behind the end is a TypeError, after all output', async () => {
  for (const format of FORMATS) {
    for (const cut of [0, 1]) {
      const bytes = new Uint8Array([...(await packed('expected output', format)), 0]);
      const chunks = cut === 0 ? [bytes] : [bytes.slice(0, -1), bytes.slice(-1)];
      const stream = new ReadableStream({ start(c) { for (const chunk of chunks) c.enqueue(chunk); c.close(); } });
      const reader = stream.pipeThrough(new DecompressionStream(format)).getReader();
      equal(new TextDecoder().decode((await reader.read()).value), 'expected output');
      await throws('TypeError', () => reader.read());
    }
  }
});
for (const format of FORMATS) {
  check(`DecompressionStream: ${format} is taken only as its output is read`, async () => {
    const bytes = await packed(new Uint8Array(16 * 65536), format);
    ok(bytes.length < 10_000);
    for (const side of ['cancel', 'abort']) {
      const { readable, writable } = new DecompressionStream(format);
      const reader = readable.getReader();
      const writer = writable.getWriter();
      let taken = 'no';
      const written = writer.write(bytes).then(() => (taken = 'yes'), (error) => (taken = error));
      ok((await reader.read()).value.length <= 65536);
      await new Promise((done) => setTimeout(done, 5));
      equal(taken, 'no');
      const reason = new RangeError('given up');
      if (side === 'cancel') await reader.cancel(reason);
      else await writer.abort(reason);
      await written;
      equal(taken === reason, true);
      if (side === 'abort') await throws('RangeError', () => reader.read());
    }
    let length = 0;
    for await (const chunk of unpacked(bytes, format)) length += chunk.length;
    equal(length, 16 * 65536);
  });
}
check('ReadableStream: the type owning', () => ok(new ReadableStream({ type: 'owning' })));

about('streams in corners');
check('pipeTo: with a signal, both ends hear of it, and writes under way are waited for', async () => {
  const controller = new AbortController();
  const seen = [];
  let wrote;
  const source = new ReadableStream({ pull(c) { c.enqueue(1); }, cancel(reason) { seen.push(`cancel ${reason}`); } });
  const sink = new WritableStream({
    write: () => new Promise((resolve) => { wrote = () => { seen.push('written'); resolve(); }; }),
    abort(reason) { seen.push(`abort ${reason}`); },
  });
  const piped = source.pipeTo(sink, { signal: controller.signal });
  await new Promise((resolve) => setTimeout(resolve, 1));
  controller.abort('why');
  await Promise.resolve();
  wrote();
  let reason;
  await piped.catch((error) => { reason = error; });
  equal([reason, seen], ['why', ['written', 'abort why', 'cancel why']]);
});
check('pipeTo: an error of cancel() or abort() is the result', async () => {
  const source = new ReadableStream({ cancel() { throw new RangeError('x'); } });
  await throws('RangeError', () => source.pipeTo(new WritableStream(), { signal: AbortSignal.abort() }));
});
check('pipeTo, pipeThrough: what is no signal is a TypeError', async () => {
  for (const signal of [null, 'x', {}, 1]) {
    await throws('TypeError', () => numbers(1).pipeTo(new WritableStream(), { signal }));
    await throws('TypeError', () => numbers(1).pipeThrough(new TransformStream(), { signal }));
  }
});
check('ReadableStream: asynchronous iteration, calls in a queue', async () => {
  const iterator = numbers(2)[Symbol.asyncIterator]();
  const [one, end, two] = await Promise.all([iterator.next(), iterator.return('x'), iterator.next()]);
  equal([one, end.value, end.done, two.done], [{ value: 1, done: false }, 'x', true, true]);
  const prototypeOf = Object.getPrototypeOf;
  ok(prototypeOf(prototypeOf(iterator)) === prototypeOf(prototypeOf((async function* () {}).prototype)));
  equal([Object.keys(prototypeOf(iterator)), ReadableStream.prototype.values === ReadableStream.prototype[Symbol.asyncIterator]], [['next', 'return'], true]);
});
check('ReadableStream: asynchronous iteration, the lock', async () => {
  const stream = numbers(1);
  const iterator = stream.values({ preventCancel: true });
  ok(stream.locked);
  await iterator.return();
  ok(!stream.locked);
  equal(await all(stream), [1]);
});
check('ReadableStream.from: kinds of iterables, and what is none', async () => {
  equal(await all(ReadableStream.from('ab')), ['a', 'b']);
  equal(await all(ReadableStream.from(new Set([Promise.resolve(1)]))), [1]);
  equal(await all(ReadableStream.from((async function* () { yield 1; })())), [1]);
  equal(await all(ReadableStream.from(numbers(2))), [1, 2]);
  for (const source of [null, undefined, 1, {}, { [Symbol.iterator]: () => 1 }, { [Symbol.asyncIterator]: 1 }]) {
    await throws('TypeError', () => ReadableStream.from(source));
  }
  await throws('TypeError', () => all(ReadableStream.from({ [Symbol.iterator]: () => ({ next: () => 1 }) })));
});
check('tee: of a byte stream, with bytes of their own', async () => {
  const stream = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(new Uint8Array([1, 2])); c.close(); } });
  const [one, other] = stream.tee();
  const reader = one.getReader({ mode: 'byob' });
  const { value } = await reader.read(new Uint8Array(2));
  const [chunk] = await all(other);
  value[0] = 9;
  equal([[...value], [...chunk]], [[9, 2], [1, 2]]);
});
check('read into a buffer: min', async () => {
  let n = 0;
  const stream = new ReadableStream({ type: 'bytes', pull(c) { c.enqueue(new Uint8Array([++n])); } });
  const reader = stream.getReader({ mode: 'byob' });
  equal([...(await reader.read(new Uint8Array(5), { min: 3 })).value], [1, 2, 3]);
  await throws('TypeError', () => reader.read(new Uint8Array(5), { min: 0 }));
  await throws('RangeError', () => reader.read(new Uint8Array(5), { min: 6 }));
});
check('TransformStream: cancel', async () => {
  const seen = [];
  const made = () => new TransformStream({ cancel(reason) { seen.push(reason); }, flush() { seen.push('flushed'); } });
  await made().readable.cancel('read');
  await made().writable.abort('written');
  equal(seen, ['read', 'written']);
});
check('WritableStreamDefaultController: signal', async () => {
  let signal;
  const stream = new WritableStream({ start(controller) { signal = controller.signal; } });
  ok(signal instanceof AbortSignal && !signal.aborted);
  await stream.abort('why');
  equal([signal.aborted, signal.reason], [true, 'why']);
});
check('ReadableStream: types and strategies that are not valid', async () => {
  await throws('TypeError', () => new ReadableStream({ type: null }));
  await throws('RangeError', () => new ReadableStream({ type: 'bytes' }, { size() {} }));
  await throws('RangeError', () => new TransformStream({ readableType: 1 }));
  await throws('RangeError', () => new WritableStream({}, { highWaterMark: -1 }));
});
