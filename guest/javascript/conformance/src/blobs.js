// Blob, File, structuredClone of them, and what URL and TextDecoderStream do in corners.

import { about, check, equal, ok, throws } from './check.js';

const read = async (stream) => {
  let text = '';
  for await (const piece of stream) text += piece;
  return text;
};
const streamOf = (...chunks) => new ReadableStream({ start(c) { chunks.forEach((chunk) => c.enqueue(chunk)); c.close(); } });

about('Blob and File in corners');
check('Blob: endings', async () => {
  equal(await new Blob(['a\r\nb\rc\n'], { endings: 'native' }).text(), 'a\nb\nc\n');
  equal(await new Blob(['a\r\nb'], { endings: 'transparent' }).text(), 'a\r\nb');
  for (const endings of ['', 'nonsense', null, 1]) await throws('TypeError', () => new Blob([], { endings }));
});
check('Blob: the type becomes a string', () => {
  equal([null, 12, { toString: () => 'A/b' }].map((type) => new Blob([], { type }).type), ['null', '12', 'a/b']);
  equal([undefined, 'a/\u00e4'].map((type) => new Blob([], { type }).type), ['', '']);
});
check('Blob: without options, and with what is none', async () => {
  equal([new Blob().size, new Blob(undefined).size, new Blob(['a'], null).size, new Blob(['ab'], undefined).size], [0, 0, 1, 2]);
  for (const args of [[null], ['text'], [1], [[], 1]]) await throws('TypeError', () => new Blob(...args));
});
check('Blob: slice of fractions and beyond the ends', async () => {
  const blob = new Blob(['0123456789']);
  for (const [args, text] of [
    [[1.5], '23456789'], [[0.5], '0123456789'], [[2.5, 4.5], '23'], [[-2.5], '89'], [[0, NaN], ''], [[-100, 3], '012'], [[0, Infinity], '0123456789'],
    [[5, 2], ''], [[undefined, 2], '01'],
  ]) {
    equal([args.map(String), await blob.slice(...args).text()], [args.map(String), text]);
  }
  equal(blob.slice(0, 1, 'A/B').type, 'a/b');
});
check('Blob: stream is a byte stream', async () => {
  const size = 200_000;
  const reader = new Blob([new Uint8Array(size).fill(7)]).stream().getReader({ mode: 'byob' });
  const { value } = await reader.read(new Uint8Array(10));
  equal([value.length, value[9]], [10, 7]);
  let length = 10;
  for (let part = await reader.read(new Uint8Array(70_000)); !part.done; part = await reader.read(new Uint8Array(70_000))) length += part.value.length;
  equal(length, size);
});
check('Blob: textStream', async () => equal(await read(new Blob(['a', 'ä']).textStream()), 'aä'));
check('Blob: the type is a parsed MIME type', () => equal(new Blob([], { type: 'TEXT/HTML;CHARSET=GBK' }).type, 'text/html;charset=GBK'));
check('File: lastModified', () => {
  const began = Date.now();
  const now = new File([], 'x').lastModified;
  ok(now >= began && now <= Date.now());
  equal([1.9, -5, '7', 2 ** 40, NaN].map((lastModified) => new File([], 'x', { lastModified }).lastModified), [1, -5, 7, 2 ** 40, 0]);
});
check('structuredClone: Blob and File, at the top and within', async () => {
  const blob = new Blob(['x'], { type: 'a/b' });
  const file = new File([blob], 'f.txt', { type: 'c/d', lastModified: 5 });
  const one = structuredClone(blob);
  equal([one !== blob, one instanceof Blob, one.type, await one.text()], [true, true, 'a/b', 'x']);
  const value = { list: [blob, file, blob], map: new Map([[file, blob]]), set: new Set([file]), deep: { deeper: [{ file }] } };
  value.self = value;
  const copy = structuredClone(value);
  ok(copy.self === copy && copy.list[0] === copy.list[2] && copy.list[0] !== blob && copy.deep.deeper[0].file === copy.list[1]);
  const [[key, held]] = copy.map;
  ok(key === copy.list[1] && held === copy.list[0] && copy.set.has(key));
  equal([key instanceof File, key.name, key.type, key.lastModified, await key.text()], [true, 'f.txt', 'c/d', 5, 'x']);
});
check('FormData keeps the type of a Blob, of response.blob(), and of clones', async () => {
  const init = { headers: { 'content-type': 'image/png' } };
  const made = new Blob(['x'], { type: 'image/png' });
  for (const blob of [made, await new Response('x', init).blob(), structuredClone(made), made.slice(0, 1, 'image/png')]) {
    const form = new FormData();
    form.append('file', blob, 'f.png');
    const { type } = (await new Response(form).formData()).get('file');
    equal([form.get('file').type, type], ['image/png', 'image/png']);
  }
});
check('structuredClone: sparse arrays, boxed strings, and deep values beside a Blob', () => {
  const sparse = [];
  sparse[4_000_000_000] = new Blob(['x'], { type: 'a/b' });
  let deep = { blob: new Blob([], { type: 'c/d' }) };
  for (let depth = 0; depth < 3000; depth++) deep = [deep];
  const copy = structuredClone({ sparse, deep, text: new String('text') });
  equal([copy.sparse.length, copy.sparse[4_000_000_000].type, Object.keys(copy.sparse)], [4_000_000_001, 'a/b', ['4000000000']]);
  equal([copy.text instanceof String, `${copy.text}`, structuredClone(sparse).length], [true, 'text', 4_000_000_001]);
  let inner = copy.deep;
  while (Array.isArray(inner)) [inner] = inner;
  equal(inner.blob.type, 'c/d');
});
check('structuredClone: what cannot be cloned is a DataCloneError', async () => {
  for (const value of [
    new Response(), new Request('http://a.test'), new Headers(), new URL('http://a.test'), new AbortController(), new AbortController().signal,
    new ReadableStream(), new WritableStream(), new TransformStream(), new TextDecoderStream(), performance, new MessageChannel(), { a: [new Response()] },
    new WeakMap(), Promise.resolve(), Symbol('x'), new URLSearchParams(), new FormData(),
  ]) {
    await throws('DataCloneError', () => structuredClone(value));
  }
});
check('structuredClone: transfers ports and streams', () => {
  for (const one of [new MessageChannel().port1, new ReadableStream()]) ok(structuredClone(one, { transfer: [one] }) !== one);
});
check('structuredClone: buffers that were transferred, and views beside them', async () => {
  const buffer = new ArrayBuffer(8, { maxByteLength: 8 });
  const views = [new Uint8Array(buffer, 4, 4), new DataView(buffer, 4, 4)];
  equal(structuredClone(views)[0].length, 4);
  buffer.resize(2);
  for (const view of views) await throws('DataCloneError', () => structuredClone({ view }));
  const gone = new ArrayBuffer(1);
  equal([structuredClone(gone, { transfer: [gone] }).byteLength, gone.detached], [1, true]);
  await throws('DataCloneError', () => structuredClone(gone));
  for (const one of [gone, new Uint8Array(1), new Blob([]), {}]) await throws('DataCloneError', () => structuredClone(1, { transfer: [one] }));
});

about('URL in corners');
check('URL: href of a relative text is a TypeError', async () => {
  const url = new URL('http://a.test/x?a=1');
  const { searchParams } = url;
  for (const bad of ['./bar', '', 'x', '//b.test']) await throws('TypeError', () => { url.href = bad; });
  equal(url.href, 'http://a.test/x?a=1');
  url.href = 'http://b.test/?b=2';
  equal([url.host, searchParams.get('b'), url.searchParams === searchParams], ['b.test', '2', true]);
});
check('URL: what looks like a drive in other schemes', () =>
  equal(
    [['..', 'abc://x/y/z/C:/'], ['../D:/../e?q', 'abc:/C:/f'], ['abc://x/C:/../../y^#h'], ['abc:/C|/..'], ['/g', 'abc://x/C:/'], ['abc:C:/..'], ['http://a.test/C:/..']].map(
      ([text, base]) => new URL(text, base).href,
    ),
    ['abc://x/y/z/', 'abc:/e?q', 'abc://x/y%5E#h', 'abc:/', 'abc://x/g', 'abc:C:/..', 'http://a.test/'],
  ));
check('TextDecoderStream: its options', async () => {
  const { encoding, fatal, ignoreBOM } = new TextDecoderStream('latin1', { fatal: 1, ignoreBOM: true });
  equal([encoding, fatal, ignoreBOM], ['windows-1252', true, true]);
  const plain = new TextDecoderStream();
  equal([plain.encoding, plain.fatal, plain.ignoreBOM], ['utf-8', false, false]);
  const bytes = new Uint8Array([239, 187, 191, 97]);
  equal(await read(streamOf(bytes).pipeThrough(new TextDecoderStream('utf-8', { ignoreBOM: true }))), '\ufeffa');
  equal(await read(streamOf(bytes).pipeThrough(new TextDecoderStream())), 'a');
  await throws('RangeError', () => new TextDecoderStream('nothing'));
});
check('TextDecoderStream: fatal errors, and chunks that are no bytes', async () => {
  const fatal = { fatal: true };
  await throws('TypeError', () => read(streamOf(new Uint8Array([255])).pipeThrough(new TextDecoderStream('utf-8', fatal))));
  await throws('TypeError', () => read(streamOf(new Uint8Array([195])).pipeThrough(new TextDecoderStream('utf-8', fatal))));
  for (const chunk of [undefined, null, 12, 'x', {}, [1]]) {
    await throws('TypeError', () => read(streamOf(chunk).pipeThrough(new TextDecoderStream())));
  }
});
check('TextEncoderStream: halves of pairs, and what becomes a text', async () => {
  const texts = streamOf('\ud83d', '\ude00', 'a\ud800', 1, '\udc00').pipeThrough(new TextEncoderStream()).pipeThrough(new TextDecoderStream());
  equal(await read(texts), '\u{1f600}a\ufffd1\ufffd');
  await throws('TypeError', () => read(streamOf(Symbol('x')).pipeThrough(new TextEncoderStream())));
});
