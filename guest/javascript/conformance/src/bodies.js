// Bodies of Request and Response: which state they are in, their types, forms; and what fetch gives of data: and blob: URLs.

import { about, check, equal, ok, throws } from './check.js';

const bytes = (text) => new TextEncoder().encode(text);
const post = (body, init) => new Request('http://a.test/', { method: 'POST', body, ...init });
const isObjectOf = (value) => Object.prototype.toString.call(value);

about('bodies');
check('bodyUsed: while a stream of one is read', async () => {
  const response = new Response(new ReadableStream({ pull(c) { c.enqueue(bytes('a')); } }));
  const reader = response.body.getReader();
  equal([response.bodyUsed, response.body.locked], [false, true]);
  await reader.read();
  ok(response.bodyUsed);
});
check('bodyUsed: of one that is cancelled or piped', async () => {
  const [one, other] = [new Response('a'), new Response('b')];
  await one.body.cancel();
  const piped = other.body.pipeTo(new WritableStream());
  equal([one.bodyUsed, other.bodyUsed], [true, true]);
  await piped;
});
check('bodyUsed: of no body stays false', async () => {
  const response = new Response();
  await response.text();
  equal([response.bodyUsed, await response.text()], [false, '']);
});
check('body: after text() it is there still, and locked', async () => {
  for (const response of [new Response('a'), new Response(bytes('a')), new Response(new Response('a').body)]) {
    await response.text();
    ok(response.body.locked && response.bodyUsed);
    await throws('TypeError', () => response.body.getReader());
  }
});
check('body: of a Request that gave its own away', async () => {
  const one = post('a');
  const { body } = one;
  const other = new Request(one);
  ok(one.body === body && body.locked && one.bodyUsed);
  ok(other.body instanceof ReadableStream && other.body !== body);
  equal(await other.text(), 'a');
});
check('body: the one of the request that came in, handed on', async ({ request }) => {
  const asked = new Request(new URL('/echo', request.url), { method: 'POST', body: 'there and back' });
  equal(await (await fetch(asked)).text(), 'there and back');
  ok(asked.bodyUsed);
});
check('body: is a byte stream', async () => {
  for (const response of [new Response('abc'), new Response(bytes('abc')), new Response(new Blob(['abc'])), await fetch('data:,abc')]) {
    const reader = response.body.getReader({ mode: 'byob' });
    const { value, done } = await reader.read(new Uint8Array(2));
    equal([[...value], done], [[97, 98], false]);
    equal([...(await reader.read(new Uint8Array(2))).value], [99]);
    const end = await reader.read(new Uint8Array(2));
    equal([end.done, end.value.length], [true, 0]);
  }
});
check('body: of a response to fetch is a byte stream', async ({ request }) => {
  const reader = (await fetch(new URL('/slow?chunks=2&ms=1', request.url))).body.getReader({ mode: 'byob' });
  let text = '';
  for (let read = await reader.read(new Uint8Array(3)); !read.done; read = await reader.read(new Uint8Array(3))) {
    text += new TextDecoder().decode(read.value);
  }
  equal(text, 'chunkchunk');
});
check('clone(): chunks are copied', async () => {
  const chunk = bytes('a');
  const other = new Response(new ReadableStream({ start(c) { c.enqueue(chunk); c.close(); } })).clone();
  const { value } = await other.body.getReader().read();
  ok(value !== chunk && value.buffer !== chunk.buffer);
});
check('text(): Object.prototype.then is not asked', async () => {
  const response = new Response(new ReadableStream({ start(c) { c.enqueue(bytes('hello')); c.close(); } }));
  Object.prototype.then = function (resolve) {
    delete Object.prototype.then;
    resolve({ done: false, value: bytes('bye') });
  };
  const text = response.text();
  equal(await text.finally(() => delete Object.prototype.then), 'hello');
});
check('blob(): the type is a parsed MIME type', async () => {
  for (const [given, type] of [
    ['TEXT/HTML;CHARSET=GBK', 'text/html;charset=GBK'],
    ['text/html;charset=gbk(', 'text/html;charset="gbk("'],
    ['text/html ; ; charset="gbk"x', 'text/html;charset=gbk'],
    ['text/html;test;charset= gbk', 'text/html;charset=" gbk"'],
    ['text/html;a="b;c";A=d', 'text/html;a="b;c"'],
    ['text/html, x/x;a=b', 'x/x;a=b'],
    ['text/html;charset=gbk, text/html;a=","', 'text/html;a=",";charset=gbk'],
    ['nonsense', ''],
    ['a/b/c', ''],
  ]) {
    const init = { headers: { 'content-type': given } };
    equal([given, (await new Response('', init).blob()).type], [given, type]);
    equal([given, (await post('', init).blob()).type], [given, type]);
  }
});
check('types and values with long runs of spaces take no time', async () => {
  const long = `a${' '.repeat(40_000)}b`;
  const began = performance.now();
  const init = { headers: { 'content-type': ` text/html;x=${long}`, x: ` ${long} ` } };
  equal((await new Response('', init).blob()).type, `text/html;x="${long}"`);
  equal(new Response('', init).headers.get('x'), long);
  equal((await new Response('', { headers: { 'content-type': `text/${long};x=y` } }).blob()).type, '');
  const body = `--y\r\nContent-Disposition: form-data; name="x"; filename="f"\r\nContent-Type: \t${long} \r\n\r\n1\r\n--y--\r\n`;
  const form = await new Response(body, { headers: { 'content-type': 'multipart/form-data; boundary=y' } }).formData();
  equal(form.get('x').type, long);
  ok(performance.now() - began < 1000);
});
check('formData(): a byte order mark stays', async () => {
  const text = '\ufefftest=\ufeff';
  const form = await new Response(text, { headers: { 'content-type': 'application/x-www-form-urlencoded' } }).formData();
  equal([...form], [['\ufefftest', '\ufeff']]);
});
check('formData(): a question mark at the beginning stays', async () => {
  const form = await new Response('?a=1', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }).formData();
  equal([...form], [['?a', '1']]);
});
check('formData(): an error of the stream comes before one of the type', () => {
  const body = new ReadableStream({ start(c) { c.error(new RangeError('x')); } });
  return throws('RangeError', () => new Response(body).formData());
});
check('formData(): the type in capitals, the boundary in quotes', async () => {
  const body = '--a b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--a b--\r\n';
  const form = await new Response(body, { headers: { 'content-type': 'MULTIPART/form-data; Boundary="a b"' } }).formData();
  equal(form.get('x'), '1');
});
check('formData(): names without quotes, quotes in names', async () => {
  const part = (disposition) => `--y\r\nContent-Disposition: form-data${disposition}\r\n\r\n1\r\n`;
  const form = async (disposition) => {
    const [found] = await new Response(`${part(disposition)}--y--`, { headers: { 'content-type': 'multipart/form-data; boundary=y' } }).formData();
    return [found[0], found[1].name];
  };
  equal(await form('; name=a'), ['a', undefined]);
  equal(await form(' ; NAME = a; filename=b.txt'), ['a', 'b.txt']);
  equal(await form('; filename="a\\"b; name=c.txt"; name="d"'), ['d', 'a"b; name=c.txt']);
  equal(await form('; name="a%22b"; filename="C:\\x\\y.txt"'), ['a"b', 'C:\\x\\y.txt']);
  equal(await form('; name=""'), ['', undefined]);
  for (const disposition of ['', '; filename="a"', ' name="a"', '; xname="a"', '; name="a']) await throws('TypeError', () => form(disposition));
});
check('formData(): what takes long to search is refused at once', async () => {
  const began = performance.now();
  const refused = (type, body) => throws('TypeError', () => new Response(body, { headers: { 'content-type': `multipart/form-data; boundary=${type}` } }).formData());
  await refused(`${'-'.repeat(12_000)}x`, '-'.repeat(500_000));
  await refused(`${'-'.repeat(69)}x`, '-'.repeat(500_000));
  await refused('y', `--y\r\ncontent-disposition: form-data;${' xname=" ;'.repeat(30_001)}\r\n\r\nx\r\n--y--`);
  ok(performance.now() - began < 2000);
  const body = (boundary) => new Response(`--${boundary}\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--${boundary}--`, { headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } });
  equal([...(await body('y'.repeat(70)).formData())], [['a', '1']]);
  await throws('TypeError', () => body('y'.repeat(71)).formData());
});
check('FormData as body: names of header fields as browsers write them', async () => {
  const form = new FormData();
  form.append('name', 'value');
  form.append('file', new Blob(['x'], { type: 'a/b' }));
  const text = await new Response(form).text();
  ok(text.includes('Content-Disposition: form-data; name="name"\r\n\r\nvalue\r\n') && text.includes('Content-Type: a/b\r\n'));
});
check('FormData as body: ends of lines in names and values, but not in names of files', async () => {
  const form = new FormData();
  form.append('a\nb', 'c\rd\ne\r\nf');
  form.append('g', new Blob(['h\n']), 'i\nj"\r');
  const text = await new Response(form).text();
  for (const part of ['; name="a%0D%0Ab"\r\n\r\nc\r\nd\r\ne\r\nf\r\n', '; name="g"; filename="i%0Aj%22%0D"\r\n', '\r\n\r\nh\n\r\n--']) ok(text.includes(part));
});
check('FormData: a File under another name keeps its time and type', () => {
  const form = new FormData();
  const file = new File(['x'], 'a', { type: 'b/c', lastModified: 5 });
  form.append('f', file, 'd');
  form.set('g', file, 'e');
  form.set('h', file);
  equal(['f', 'g', 'h'].map((name) => form.get(name)).map(({ name, type, lastModified }) => [name, type, lastModified]), [['d', 'b/c', 5], ['e', 'b/c', 5], ['a', 'b/c', 5]]);
});
check('FormData as body: an empty form, there and back', async () => equal([...(await new Response(new FormData()).formData())], []));
check('FormData as body: an empty form has no bytes', async () => equal(await new Response(new FormData()).text(), ''));
check('headers of received responses, of error() and redirect() cannot be changed', async ({ request }) => {
  const received = await fetch(new URL('/json', request.url));
  for (const response of [received, await fetch('data:,'), Response.error(), Response.redirect('http://a.test/')]) {
    await throws('TypeError', () => response.headers.append('a', 'b'));
    await throws('TypeError', () => response.headers.set('a', 'b'));
    await throws('TypeError', () => response.headers.delete('content-type'));
    ok(response.headers instanceof Headers && isObjectOf(response.headers) === '[object Headers]');
  }
  const copy = new Response(received.body, received);
  copy.headers.set('a', 'b');
  equal([copy.headers.get('a'), copy.headers.get('content-type')], ['b', 'application/json']);
});

about('data: and blob: URLs');
check('fetch of a data: URL: bytes, types', async () => {
  for (const [url, type, content] of [
    ['data:,X', 'text/plain;charset=US-ASCII', [88]],
    ['data:,%FF%fg%', 'text/plain;charset=US-ASCII', [255, 37, 102, 103, 37]],
    ['data:,X#Y', 'text/plain;charset=US-ASCII', [88]],
    ['data:text/plain;charset=windows-1252,%C2%B1', 'text/plain;charset=windows-1252', [194, 177]],
    ['data:IMAGE/gif;CHARSET=x,', 'image/gif;charset=x', []],
    ['data:;x=y;charset=z,X', 'text/plain;x=y;charset=z', [88]],
    ['data:text/html  ,a b', 'text/html', [97, 32, 98]],
    ['data:X,X', 'text/plain;charset=US-ASCII', [88]],
    ['data:;base64,W%20A', 'text/plain;charset=US-ASCII', [88]],
    ['data:;BASe64,//A', 'text/plain;charset=US-ASCII', [255, 240]],
    ['data:x/x;base64;charset=x,WA', 'x/x;charset=x', [87, 65]],
    ['data:x/x;base64;base64,WA==', 'x/x', [88]],
  ]) {
    const response = await fetch(url);
    equal([url, response.headers.get('content-type')], [url, type]);
    equal([response.status, response.statusText, response.type, response.url], [200, 'OK', 'basic', new URL(url).href.replace(/#.*/, '')]);
    equal([url, [...(await response.bytes())]], [url, content]);
  }
});
check('fetch of a data: URL that is not valid is a TypeError', async () => {
  for (const url of ['data:text/plain', 'data:;base64,a', 'data:;base64,ab===', 'data:;base64,ab=c', 'data:;base64,ä']) {
    await throws('TypeError', () => fetch(url));
  }
});
check('fetch of a data: URL: HEAD and POST', async () => {
  equal(await (await fetch('data:,x', { method: 'HEAD' })).text(), '');
  equal(await (await fetch('data:,x', { method: 'POST' })).text(), 'x');
});
check('fetch of a blob: URL', async () => {
  const url = URL.createObjectURL(new Blob(['content'], { type: 'a/b' }));
  ok(url.startsWith('blob:'));
  const response = await fetch(`${url}#fragment`);
  const { headers } = response;
  equal([response.status, response.statusText, headers.get('content-type'), headers.get('content-length')], [200, 'OK', 'a/b', '7']);
  equal(await response.text(), 'content');
  const request = new Request(url);
  URL.revokeObjectURL(url);
  await throws('TypeError', () => fetch(url));
  // What it stood for when the request was made.
  equal(await (await fetch(request)).text(), 'content');
});
check('fetch of a blob: URL: the type, also an empty one', async () => {
  const typeOf = async (blob) => (await fetch(URL.createObjectURL(blob))).headers.get('content-type');
  equal([await typeOf(new Blob(['x'])), await typeOf(new Blob(['x'], { type: 'a/b;c=d' }))], ['', 'a/b;c=d']);
});
check('fetch of a blob: URL by another method than GET is a TypeError', async () => {
  const url = URL.createObjectURL(new Blob(['x']));
  for (const method of ['HEAD', 'POST']) await throws('TypeError', () => fetch(url, { method }));
  await throws('TypeError', () => URL.createObjectURL('x'));
});

about('what a Request is made with');
check('Request: values that are none of those allowed are a TypeError', async () => {
  for (const init of [
    { mode: 'nonsense' }, { mode: 'navigate' }, { cache: 'nonsense' }, { cache: 'only-if-cached', mode: 'cors' }, { credentials: 'nonsense' },
    { redirect: 'nonsense' }, { referrerPolicy: 'nonsense' }, { referrer: 'http://:x' }, { priority: 'nonsense' }, { window: 'http://a.test' },
    { duplex: 'full' }, { signal: {} }, { method: 'a b' }, { headers: 'x' }, 1,
  ]) {
    await throws('TypeError', () => new Request('http://a.test/', init));
  }
});
check('Request: values that are allowed', () => {
  const given = { mode: 'same-origin', cache: 'only-if-cached', credentials: 'omit', redirect: 'manual', referrerPolicy: 'origin', integrity: 'x', keepalive: true };
  const request = new Request('http://a.test/', { ...given, window: null, priority: 'high', signal: null, referrer: '' });
  for (const one of [request, request.clone(), new Request(request)]) {
    for (const [name, value] of Object.entries(given)) equal([name, one[name]], [name, value]);
    equal([one.referrer, one.duplex, one.destination], ['', 'half', '']);
  }
});
check('Request: what does not go together is a TypeError', async () => {
  for (const init of [
    { method: 'PUT', mode: 'no-cors' }, { method: 'POST', keepalive: true, body: new ReadableStream(), duplex: 'half' },
  ]) {
    await throws('TypeError', () => new Request('http://a.test/', init));
  }
  const request = post('x');
  await throws('TypeError', () => new Request(request, { method: 'GET' }));
  equal([request.bodyUsed, new Request(request, { method: 'GET', body: null }).method], [false, 'GET']);
});
check('Request: of no navigation', () => {
  const { isReloadNavigation, isHistoryNavigation } = new Request('http://a.test/');
  equal([isReloadNavigation, isHistoryNavigation], [false, false]);
});
check('Request: a stream as body without duplex is a TypeError', () => throws('TypeError', () => post(new ReadableStream())));
check('Request: header names that browsers forbid are left out', () =>
  equal(new Request('http://a.test/', { headers: { cookie: 'a=1', 'x-a': '1' } }).headers.has('cookie'), false));
check('Request: headers with the mode no-cors are filtered', () =>
  equal(new Request('http://a.test/', { mode: 'no-cors', headers: { 'x-a': '1' } }).headers.has('x-a'), false));
check('header values may have control characters, but for NUL, CR and LF', async () => {
  const value = 'a\x01\x0b\x7fb';
  const init = { headers: { a: value } };
  for (const one of [new Headers(init.headers), new Response('', init).headers, post('', init).headers]) equal(one.get('a'), value);
  for (const bad of ['a\0b', 'a\rb', 'a\nb', 'a\u0100']) {
    await throws('TypeError', () => new Headers({ a: bad }));
    await throws('TypeError', () => new Response('', { headers: { a: bad } }));
  }
});
