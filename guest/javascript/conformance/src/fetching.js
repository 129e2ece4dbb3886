// fetch, to this application itself (in another instance), and what the runtime does for a request.

import { about, check, equal, ok, throws } from './check.js';

const at = (request, path) => new URL(path, request.url).href;
const elapsed = async (run) => {
  const began = performance.now();
  await run();
  return performance.now() - began;
};

about('fetch');
check('fetch: status, headers, url, text', async ({ request }) => {
  const response = await fetch(at(request, '/echo'), { method: 'POST', body: 'hello' });
  equal([response.status, response.ok, response.type, response.redirected], [200, true, 'basic', false]);
  equal([response.url, await response.text()], [at(request, '/echo'), 'hello']);
});
check('fetch: of a Request', async ({ request }) => {
  const asked = new Request(at(request, '/echo'), { method: 'PUT', body: 'x', headers: { 'x-a': '1' } });
  const response = await fetch(asked);
  equal([response.headers.get('x-method'), response.headers.get('x-a'), await response.text()], ['PUT', '1', 'x']);
});
check('fetch: header fields, repeated ones and bytes', async ({ request }) => {
  const headers = new Headers([['x-a', '1'], ['x-a', '2'], ['x-b', 'caf\xe9']]);
  const response = await fetch(at(request, '/echo'), { method: 'POST', body: '', headers });
  equal([response.headers.get('x-a'), response.headers.get('x-b')], ['1, 2', 'caf\xe9']);
});
check('fetch: header fields of the connection are left out', async ({ request }) => {
  const headers = { connection: 'close', 'transfer-encoding': 'chunked', host: 'other.test', 'x-a': '1' };
  equal((await fetch(at(request, '/echo'), { method: 'POST', body: 'x', headers })).headers.get('x-a'), '1');
});
check('fetch: a body of known length has a content-length', async ({ request }) => {
  const form = new FormData();
  form.append('a', 'ä');
  const sent = async (body, method = 'POST') =>
    (await fetch(at(request, '/framing'), { method, body, ...(body instanceof ReadableStream ? { duplex: 'half' } : {}) })).json();
  equal(await sent('ä'), { length: '2', read: 2 });
  equal(await sent(new Uint8Array(3)), { length: '3', read: 3 });
  equal(await sent(new Blob(['four'])), { length: '4', read: 4 });
  equal(await sent(new URLSearchParams({ a: '1' })), { length: '3', read: 3 });
  equal(await sent(undefined), { length: '0', read: 0 });
  const { length, read } = await sent(form);
  ok(Number(length) === read && read > 50);
  equal(await sent(undefined, 'GET'), { length: null, read: 0 });
  equal(await sent(new Blob(['abc']).stream()), { length: null, read: 3 });
});
check('fetch: a content-length of something else is not sent', async ({ request }) => {
  const sent = async (init) => (await fetch(at(request, '/framing'), { ...init, headers: { 'content-length': '2' } })).json();
  equal(await sent({ method: 'POST', body: 'longer' }), { length: '6', read: 6 });
  equal(await sent({ method: 'PUT', body: new Blob(['four']) }), { length: '4', read: 4 });
  equal(await sent({ method: 'POST' }), { length: '0', read: 0 });
  equal(await sent({}), { length: null, read: 0 });
  equal(await sent({ method: 'POST', body: new Blob(['ab']).stream() }), { length: '2', read: 2 });
});
check('Response: the content-length of something else is not sent, nor how it was compressed', async ({ request }) => {
  const sent = async (query, init) => {
    const response = await fetch(at(request, `/answer?${query}`), init);
    const { headers } = response;
    return [response.status, headers.get('content-length'), headers.get('content-encoding'), (await response.bytes()).length];
  };
  for (const [kind, size] of [['text', 1], ['wide', 3], ['bytes', 1], ['blob', 1], ['stream', 1]]) {
    for (const length of [10, 5000]) {
      const bytes = length * size;
      equal(await sent(`kind=${kind}&length=${length}&name=content-length&value=7`), [200, String(bytes), null, bytes]);
    }
  }
  for (const kind of ['text', 'none']) equal(await sent(`kind=${kind}&name=content-length&value=7`), [200, '0', null, 0]);
  equal(await sent('kind=text&length=10&name=content-encoding&value=gzip'), [200, '10', null, 10]);
  equal(await sent('kind=bytes&length=10&name=content-encoding&value=x-own'), [200, '10', 'x-own', 10]);
  for (const kind of ['none', 'text']) {
    equal(await sent(`kind=${kind}&name=content-length&value=7`, { method: 'HEAD' }), [200, '7', null, 0]);
  }
});
check('fetch: a Request has the content-length of its body', async ({ request }) => {
  const asked = new Request(at(request, '/framing'), { method: 'POST', body: new Blob(['four']) });
  equal(await (await fetch(new Request(asked))).json(), { length: '4', read: 4 });
});
check('fetch: set-cookie, each', async ({ request }) =>
  equal((await fetch(at(request, '/cookies'))).headers.getSetCookie(), ['a=1; Path=/', 'b=2']));
check('fetch: the query', async ({ request }) =>
  equal((await fetch(at(request, '/echo?a=%20&b=1'))).headers.get('x-query'), '?a=%20&b=1'));
check('fetch: json', async ({ request }) => equal(await (await fetch(at(request, '/json'))).json(), { a: [1, null] }));
check('fetch: a megabyte there and back', async ({ request }) => {
  const body = new Uint8Array(1 << 20).map((_, index) => index % 251);
  const back = await (await fetch(at(request, '/echo'), { method: 'POST', body })).bytes();
  equal(back.length, body.length);
  ok(back.every((byte, index) => byte === index % 251));
});
check('fetch: a stream as body', async ({ request }) => {
  const body = new ReadableStream({
    async pull(controller) {
      controller.enqueue(new TextEncoder().encode('part '));
      this.count = (this.count ?? 0) + 1;
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (this.count === 3) controller.close();
    },
  });
  equal(await (await fetch(at(request, '/echo'), { method: 'POST', body, duplex: 'half' })).text(), 'part part part ');
});
check('fetch: a response comes in pieces', async ({ request }) => {
  const reader = (await fetch(at(request, '/slow?chunks=3&ms=20'))).body.getReader();
  const first = await reader.read();
  equal(new TextDecoder().decode(first.value), 'chunk');
  let rest = 0;
  for (let { done } = first; !done; ({ done } = await reader.read())) rest += 1;
  equal(rest, 3);
});
check('fetch: HEAD has no body', async ({ request }) => {
  const response = await fetch(at(request, '/json'), { method: 'HEAD' });
  equal([response.status, response.body, await response.text()], [200, null, '']);
});
check('fetch: 204 has no body', async ({ request }) => equal((await fetch(at(request, '/status?code=204'))).body, null));
check('fetch: 404 is a response', async ({ request }) => {
  const response = await fetch(at(request, '/nowhere'));
  equal([response.status, response.ok], [404, false]);
});
check('fetch: a redirect is followed', async ({ request }) => {
  const response = await fetch(at(request, '/redirect?to=/json'));
  equal([response.status, response.redirected, response.url], [200, true, at(request, '/json')]);
});
check('fetch: 303 after POST asks by GET', async ({ request }) => {
  const response = await fetch(at(request, '/redirect?code=303&to=/echo'), { method: 'POST', body: 'x' });
  equal([response.headers.get('x-method'), await response.text()], ['GET', '']);
});
check('fetch: 307 repeats the body', async ({ request }) => {
  const response = await fetch(at(request, '/redirect?code=307&to=/echo'), { method: 'POST', body: 'again' });
  equal([response.headers.get('x-method'), await response.text()], ['POST', 'again']);
});
check('fetch: redirect "manual" gives the redirect', async ({ request }) => {
  const response = await fetch(at(request, '/redirect?to=/json'), { redirect: 'manual' });
  equal([response.status, response.headers.get('location')], [302, '/json']);
});
check('fetch: redirect "error" is a TypeError', ({ request }) => throws('TypeError', () => fetch(at(request, '/redirect?to=/json'), { redirect: 'error' })));
check('fetch: redirects without end are a TypeError', ({ request }) => throws('TypeError', () => fetch(at(request, '/loop'))));
check('fetch: a host that is not allowed is a TypeError', () => throws('TypeError', () => fetch('http://not-allowed.test/')));
check('fetch: nobody listens: a TypeError', () => throws('TypeError', () => fetch('http://127.0.0.1:9/')));
check('fetch: another scheme is a TypeError', () => throws('TypeError', () => fetch('ftp://a.test/')));
check('fetch: of a data URL', async () => equal(await (await fetch('data:text/plain,abc')).text(), 'abc'));
check('fetch: a signal that came before', ({ request }) => throws('AbortError', () => fetch(at(request, '/json'), { signal: AbortSignal.abort() })));
check('fetch: a signal while it waits for the head', async ({ request }) => {
  const controller = new AbortController();
  const asked = fetch(at(request, '/slow?ms=3000'), { signal: controller.signal });
  setTimeout(() => controller.abort(), 10);
  ok((await elapsed(() => throws('AbortError', () => asked))) < 2500);
});
check('fetch: a signal within the body', async ({ request }) => {
  const controller = new AbortController();
  const response = await fetch(at(request, '/slow?chunks=2&ms=3000'), { signal: controller.signal });
  setTimeout(() => controller.abort(), 10);
  ok((await elapsed(() => throws('AbortError', () => response.text()))) < 2500);
});
check('fetch: AbortSignal.timeout is a TimeoutError', ({ request }) =>
  throws('TimeoutError', () => fetch(at(request, '/slow?ms=3000'), { signal: AbortSignal.timeout(10) })));
check('fetch: three at once take as long as one', async ({ request }) => {
  const one = () => fetch(at(request, '/slow?ms=300')).then((response) => response.text());
  ok((await elapsed(() => Promise.all([one(), one(), one()]))) < 850);
});
check('fetch: a body that nobody reads does no harm', async ({ request }) => {
  await fetch(at(request, '/echo'), { method: 'POST', body: 'x'.repeat(100_000) });
});
check('fetch: cancelling a body', async ({ request }) => {
  const response = await fetch(at(request, '/slow?chunks=3&ms=1000'));
  await response.body.cancel();
  ok(response.bodyUsed);
});
check('fetch: timers go on meanwhile', async ({ request }) => {
  let ticks = 0;
  const timer = setInterval(() => { ticks += 1; }, 10);
  await (await fetch(at(request, '/slow?ms=200'))).text();
  clearInterval(timer);
  ok(ticks >= 5);
});

about('env and ctx');
check('env: what the host grants', ({ env }) => equal([env.CONFORMANCE, env.MARKED], ['granted', '\ufeffmarked']));
check('ctx: passThroughOnException', async ({ request }) => {
  const response = await fetch(at(request, '/pass-through'));
  await response.text();
  ok(response.status < 500);
});
check('ctx: waitUntil goes on after the response', async ({ request }) => {
  // The same connection is not needed: what was remembered is asked of all instances until one has it.
  const name = crypto.randomUUID();
  equal(await (await fetch(at(request, `/remember?name=${name}&ms=50`))).text(), 'answered');
  const began = performance.now();
  while (performance.now() - began < 4000) {
    const had = await (await fetch(at(request, `/remembered?name=${name}`))).text();
    if (had === 'yes') return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('what it waited for was not done');
});
