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
for (const format of ['gzip', 'deflate', 'deflate-raw']) {
  check(`CompressionStream, DecompressionStream: ${format}, there and back`, async () => {
    const source = new Response('abc'.repeat(1000)).body;
    const there = source.pipeThrough(new CompressionStream(format));
    const packed = new Uint8Array(await new Response(there).arrayBuffer());
    ok(packed.length < 300);
    const back = new Response(packed).body.pipeThrough(new DecompressionStream(format));
    equal(await new Response(back).text(), 'abc'.repeat(1000));
  });
}
