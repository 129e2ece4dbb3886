// Request, Response, Headers.

import { about, check, equal, ok, throws } from './check.js';

const stream = (...texts) =>
  new ReadableStream({
    start(controller) {
      for (const text of texts) controller.enqueue(new TextEncoder().encode(text));
      controller.close();
    },
  });
const post = (body, init) => new Request('http://a.test/', { method: 'POST', body, ...init });

about('Headers');
check('Headers: names do not care for case', () => equal(new Headers({ 'X-A': '1' }).get('x-a'), '1'));
check('Headers: get of a name that is not there is null', () => equal(new Headers().get('x'), null));
check('Headers: append joins with a comma', () => {
  const headers = new Headers({ a: '1' });
  headers.append('A', '2');
  equal(headers.get('a'), '1, 2');
});
check('Headers: set replaces', () => {
  const headers = new Headers([['a', '1'], ['a', '2']]);
  headers.set('a', '3');
  equal(headers.get('a'), '3');
});
check('Headers: delete, has', () => {
  const headers = new Headers({ a: '1' });
  ok(headers.has('A'));
  headers.delete('A');
  ok(!headers.has('a'));
});
check('Headers: iteration is sorted and in lower case', () =>
  equal([...new Headers({ B: '2', a: '1' })], [['a', '1'], ['b', '2']]));
check('Headers: keys, values, forEach', () => {
  const headers = new Headers({ b: '2', a: '1' });
  equal([...headers.keys()], ['a', 'b']);
  equal([...headers.values()], ['1', '2']);
  const seen = [];
  headers.forEach((value, name) => seen.push(name + value));
  equal(seen, ['a1', 'b2']);
});
check('Headers: getSetCookie keeps cookies apart', () => {
  const headers = new Headers();
  headers.append('Set-Cookie', 'a=1');
  headers.append('Set-Cookie', 'b=2, c');
  equal(headers.getSetCookie(), ['a=1', 'b=2, c']);
});
check('Headers: iteration gives each set-cookie', () => {
  const headers = new Headers([['set-cookie', 'a=1'], ['set-cookie', 'b=2']]);
  equal([...headers].length, 2);
});
check('Headers: values are trimmed', () => equal(new Headers({ a: '  x ' }).get('a'), 'x'));
check('Headers: bytes above ASCII stay', () => equal(new Headers({ a: 'caf\xe9' }).get('a'), 'caf\xe9'));
check('Headers: a name with a space is a TypeError', () => throws('TypeError', () => new Headers({ 'a b': '1' })));
check('Headers: a value with a line break is a TypeError', () => throws('TypeError', () => new Headers({ a: '1\n2' })));
check('Headers: characters above one byte are a TypeError', () => throws('TypeError', () => new Headers({ a: '€' })));
check('Headers: of another Headers, a copy', () => {
  const one = new Headers({ a: '1' });
  const other = new Headers(one);
  other.set('a', '2');
  equal(one.get('a'), '1');
});

about('Response');
check('Response: defaults', () => {
  const { status, ok: isOk, statusText, type, url, redirected, body, bodyUsed } = new Response();
  equal([status, isOk, statusText, type, url, redirected, body, bodyUsed], [200, true, '', 'default', '', false, null, false]);
});
check('Response: is a constructor with its name', () => {
  equal(Response.name, 'Response');
  ok(new Response() instanceof Response);
  equal(Object.prototype.toString.call(new Response()), '[object Response]');
});
check('Response: status, statusText and headers of init', () => {
  const response = new Response('x', { status: 404, statusText: 'Gone fishing', headers: { 'X-A': '1' } });
  equal([response.status, response.ok, response.statusText, response.headers.get('x-a')], [404, false, 'Gone fishing', '1']);
});
check('Response: a string has a content type', () =>
  equal(new Response('x').headers.get('content-type'), 'text/plain;charset=UTF-8'));
check('Response: a content type given stays', () =>
  equal(new Response('x', { headers: { 'Content-Type': 'a/b' } }).headers.get('content-type'), 'a/b'));
check('Response: bytes have no content type', () =>
  equal(new Response(new Uint8Array(1)).headers.get('content-type'), null));
check('Response: headers may be changed', () => {
  const response = new Response('x');
  response.headers.set('x-a', '1');
  equal(response.headers.get('x-a'), '1');
});
check('Response: what init holds may change afterwards', () => {
  const headers = { a: '1' };
  const response = new Response('', { headers });
  headers.a = '2';
  equal(response.headers.get('a'), '1');
});
check('Response: init may be another Response', () => {
  const response = new Response('x', new Response('y', { status: 201, headers: { a: '1' } }));
  equal([response.status, response.headers.get('a')], [201, '1']);
});
check('Response: status 199 and 600 are a RangeError', async () => {
  await throws('RangeError', () => new Response('', { status: 199 }));
  await throws('RangeError', () => new Response('', { status: 600 }));
});
check('Response: 204 with a body is a TypeError', () => throws('TypeError', () => new Response('x', { status: 204 })));
check('Response: 204 and 304 without', () => equal([204, 304].map((status) => new Response(null, { status }).status), [204, 304]));
check('Response: a line break in statusText is a TypeError', () =>
  throws('TypeError', () => new Response('', { statusText: 'a\nb' })));
check('Response: text', async () => equal(await new Response('grün').text(), 'grün'));
check('Response: text of nothing', async () => equal(await new Response().text(), ''));
check('Response: text drops a byte order mark', async () => equal(await new Response('\ufeffa').text(), 'a'));
check('Response: text puts a mark for half of a pair', async () => equal(await new Response('a\ud800').text(), 'a\ufffd'));
check('Response: json', async () => equal(await new Response('{"a":[1]}').json(), { a: [1] }));
check('Response: json of no JSON is a SyntaxError', () => throws('SyntaxError', () => new Response('{').json()));
check('Response: arrayBuffer', async () => {
  const buffer = await new Response('abc').arrayBuffer();
  ok(buffer instanceof ArrayBuffer);
  equal([...new Uint8Array(buffer)], [97, 98, 99]);
});
check('Response: bytes', async () => equal([...(await new Response('ab').bytes())], [97, 98]));
check('Response: blob has the content type', async () => {
  const blob = await new Response('ab', { headers: { 'content-type': 'a/b' } }).blob();
  equal([blob.size, blob.type], [2, 'a/b']);
});
check('Response: formData of a form in the URL encoding', async () => {
  const form = await new Response(new URLSearchParams({ a: '1', b: 'x y' })).formData();
  equal([form.get('a'), form.get('b')], ['1', 'x y']);
});
check('Response: formData of multipart, there and back', async () => {
  const form = new FormData();
  form.append('a', '1');
  form.append('f', new File(['content'], 'f.txt', { type: 'text/plain' }));
  const back = await new Response(form).formData();
  equal(back.get('a'), '1');
  equal([back.get('f').name, await back.get('f').text()], ['f.txt', 'content']);
});
check('Response: formData of multipart, as browsers send it', async () => {
  const text = '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nä\r\n--b\r\nContent-Disposition: form-data; name="f"; filename="x.bin"\r\nContent-Type: a/b\r\n\r\n\r\n\r\n--b--\r\n';
  const form = await new Response(text, { headers: { 'content-type': 'multipart/form-data; boundary=b' } }).formData();
  equal([form.get('a'), form.get('f').name, form.get('f').type, await form.get('f').text()], ['ä', 'x.bin', 'a/b', '\r\n']);
});
check('Response: formData of another type is a TypeError', () => throws('TypeError', () => new Response('x').formData()));
check('Response: a body is used once', async () => {
  const response = new Response('x');
  await response.text();
  ok(response.bodyUsed);
  await throws('TypeError', () => response.text());
});
check('Response: a stream as body', async () => equal(await new Response(stream('a', 'b')).text(), 'ab'));
check('Response: bytes as body are copied', async () => {
  const bytes = new Uint8Array([97]);
  const response = new Response(bytes);
  bytes[0] = 98;
  equal(await response.text(), 'a');
});
check('Response: a part of a buffer as body', async () =>
  equal(await new Response(new Uint8Array([97, 98, 99]).subarray(1, 2)).text(), 'b'));
check('Response: an ArrayBuffer and a DataView as body', async () => {
  const { buffer } = new Uint8Array([97, 98]);
  equal([await new Response(buffer).text(), await new Response(new DataView(buffer, 1)).text()], ['ab', 'b']);
});
check('Response: a Blob as body gives its type', async () => {
  const response = new Response(new Blob(['x'], { type: 'a/b' }));
  equal([response.headers.get('content-type'), await response.text()], ['a/b', 'x']);
});
check('Response: other values become strings', async () => equal(await new Response(12).text(), '12'));
check('Response: body is a ReadableStream, the same each time', () => {
  const response = new Response('x');
  ok(response.body instanceof ReadableStream);
  ok(response.body === response.body);
});
check('Response: body read by hand', async () => {
  const response = new Response('abc');
  const reader = response.body.getReader();
  equal([...(await reader.read()).value], [97, 98, 99]);
  ok((await reader.read()).done);
  ok(response.bodyUsed);
});
check('Response: a locked body cannot be read', () => {
  const response = new Response('abc');
  response.body.getReader();
  return throws('TypeError', () => response.text());
});
check('Response: a stream that was read from is a TypeError', async () => {
  const source = stream('a', 'b');
  const reader = source.getReader();
  await reader.read();
  reader.releaseLock();
  await throws('TypeError', () => new Response(source));
});
check('Response: chunks that are no bytes are a TypeError', () =>
  throws('TypeError', () => new Response(new ReadableStream({ start: (c) => c.enqueue('text') })).text()));
check('Response: an error of the stream reaches the reader', () =>
  throws('RangeError', () => new Response(new ReadableStream({ start: (c) => c.error(new RangeError('x')) })).text()));
check('Response: clone gives both all of it', async () => {
  const one = new Response(stream('a', 'b'), { status: 201, headers: { a: '1' } });
  const other = one.clone();
  equal([await one.text(), await other.text(), other.status, other.headers.get('a')], ['ab', 'ab', 201, '1']);
});
check('Response: clone of a string', async () => {
  const one = new Response('ab');
  const other = one.clone();
  equal([await one.text(), await other.text()], ['ab', 'ab']);
});
check('Response: clone of one that was used is a TypeError', async () => {
  const response = new Response('x');
  await response.text();
  await throws('TypeError', () => response.clone());
});
check('Response.json', async () => {
  const response = Response.json({ a: 1 }, { status: 201 });
  equal([response.status, response.headers.get('content-type'), await response.text()], [201, 'application/json', '{"a":1}']);
});
check('Response.json keeps a content type', () =>
  equal(Response.json(1, { headers: { 'content-type': 'a/b' } }).headers.get('content-type'), 'a/b'));
check('Response.json of undefined is a TypeError', () => throws('TypeError', () => Response.json(undefined)));
check('Response.redirect', () => {
  const response = Response.redirect('http://a.test/x', 307);
  equal([response.status, response.headers.get('location')], [307, 'http://a.test/x']);
});
check('Response.redirect with status 200 is a RangeError', () => throws('RangeError', () => Response.redirect('http://a.test/', 200)));
check('Response.error', () => equal([Response.error().type, Response.error().status], ['error', 0]));

about('Request');
check('Request: defaults', () => {
  const { method, url, body, bodyUsed, redirect, credentials, mode, cache } = new Request('http://a.test');
  equal([method, url, body, bodyUsed, redirect, credentials, mode, cache], ['GET', 'http://a.test/', null, false, 'follow', 'same-origin', 'cors', 'default']);
});
check('Request: of a URL object', () => equal(new Request(new URL('http://a.test/b?c')).url, 'http://a.test/b?c'));
check('Request: a relative URL is a TypeError', () => throws('TypeError', () => new Request('/a')));
check('Request: a URL with a password is a TypeError', () => throws('TypeError', () => new Request('http://a:b@c.test/')));
check('Request: known methods are put in upper case', () => equal(new Request('http://a.test', { method: 'post' }).method, 'POST'));
check('Request: other methods stay as they are', () => equal(new Request('http://a.test', { method: 'patch' }).method, 'patch'));
check('Request: CONNECT is a TypeError', () => throws('TypeError', () => new Request('http://a.test', { method: 'CONNECT' })));
check('Request: GET with a body is a TypeError', () => throws('TypeError', () => new Request('http://a.test', { body: 'x' })));
check('Request: headers', () => equal(new Request('http://a.test', { headers: [['X-A', '1']] }).headers.get('x-a'), '1'));
check('Request: text, json', async () => {
  equal(await post('x').text(), 'x');
  equal(await post('[1]').json(), [1]);
});
check('Request: a string body has a content type', () => equal(post('x').headers.get('content-type'), 'text/plain;charset=UTF-8'));
check('Request: a stream as body, with duplex', async () => equal(await post(stream('a', 'b'), { duplex: 'half' }).text(), 'ab'));
check('Request: of a Request, which gives its body away', async () => {
  const one = post('x', { headers: { a: '1' } });
  const other = new Request(one, { headers: { b: '2' } });
  equal([other.method, other.headers.get('a'), other.headers.get('b'), await other.text(), one.bodyUsed], ['POST', null, '2', 'x', true]);
});
check('Request: of a Request that was used is a TypeError', async () => {
  const one = post('x');
  await one.text();
  await throws('TypeError', () => new Request(one));
});
check('Request: clone', async () => {
  const one = post('x', { headers: { a: '1' } });
  const other = one.clone();
  equal([await one.text(), await other.text(), other.headers.get('a'), other.method], ['x', 'x', '1', 'POST']);
});
check('Request: signal is there, and follows the one given', () => {
  ok(new Request('http://a.test').signal instanceof AbortSignal);
  const controller = new AbortController();
  const request = new Request('http://a.test', { signal: controller.signal });
  controller.abort();
  ok(request.signal.aborted);
});
check('Request: is a constructor with its name', () => {
  equal(Request.name, 'Request');
  equal(Object.prototype.toString.call(new Request('http://a.test')), '[object Request]');
});

about('the request that came in');
check('the request: method, url, headers', ({ request }) => {
  ok(request instanceof Request);
  equal(request.method, 'GET');
  ok(request.url.startsWith('http://') && new URL(request.url).pathname === '/run');
  equal(request.headers.get('host'), new URL(request.url).host);
});
check('the request: no body in a GET', ({ request }) => equal([request.body, request.bodyUsed], [null, false]));
check('the request: headers may be changed in a copy', ({ request }) => {
  const copy = new Request(request, { headers: { ...Object.fromEntries(request.headers), a: '1' } });
  equal([copy.headers.get('a'), copy.headers.get('host'), copy.url], ['1', request.headers.get('host'), request.url]);
});
check('the request: clone', ({ request }) => equal([request.clone().url, request.clone().method], [request.url, 'GET']));
