// What of the web's standards holds within a guest: GET /run runs the checks and answers with a line of JSON for each.
// The other routes are what the checks ask for.

import './messages.js';
import './bodies.js';
import './urls.js';
import './streams.js';
import './platform.js';
import './events.js';
import './blobs.js';
import './shapes.js';
import './fetching.js';
import './crypto/secrets.js';
import './crypto/aes.js';
import './crypto/curves.js';
import './crypto/rsa.js';
import './crypto/keys.js';
import './crypto/spies.js';
import { runAll } from './check.js';

const kept = [];
const remembered = new Set();
// The time at the top level, which is not 0, and the one at the first request.
const clock = { top: 0, first: null };
while (clock.top < 2) clock.top = performance.now();
// What requests leave for those after them in this instance.
const left = { requests: 0, observed: 0, messages: 0, aborted: 0, url: '', port: null, controller: null };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const routes = {
  async '/run'(context) {
    return Response.json(await runAll(context));
  },
  async '/echo'({ request }) {
    const headers = new Headers({ 'x-method': request.method, 'x-query': new URL(request.url).search });
    for (const [name, value] of request.headers) if (name.startsWith('x-')) headers.append(name, value);
    return new Response(request.body, { headers });
  },
  // Requests whose bodies are still on their way when the signal comes and this one is over.
  async '/abandon'({ request }) {
    for (let left = 3; left > 0; left--) {
      const controller = new AbortController();
      const body = new Blob(['x'.repeat(left)]);
      fetch(new URL('/echo', request.url), { method: 'POST', body, signal: controller.signal }).catch(() => {});
      controller.abort();
    }
    return new Response('abandoned');
  },
  async '/framing'({ request }) {
    return Response.json({ length: request.headers.get('content-length'), read: (await request.bytes()).length });
  },
  '/url': ({ request }) => Response.json([request.url, new URL(request.url).href]),
  '/pass-through': ({ ctx }) => {
    ctx.passThroughOnException();
    throw new RangeError('to be passed on');
  },
  // What comes in a header field, and goes back in one.
  '/bytes': ({ request }) => {
    const value = request.headers.get('x-bytes');
    return Response.json([...value].map((character) => character.charCodeAt(0)), { headers: { 'x-bytes': value } });
  },
  // A body of this kind and length, with so many header fields of 200 characters.
  '/answer': ({ params }) => {
    const length = Number(params.get('length') ?? 0);
    const body = {
      text: () => 'a'.repeat(length),
      wide: () => '€'.repeat(length),
      half: () => '\ud800'.repeat(length),
      bytes: () => new Uint8Array(length).fill(0xff),
      stream: () => new Response('a'.repeat(length)).body,
      blob: () => new Blob(['a'.repeat(length)]),
      none: () => null,
    }[params.get('kind')]();
    const headers = {};
    for (let number = 0; number < Number(params.get('fields') ?? 0); number++) headers[`x-${number}`] = 'v'.repeat(200);
    if (params.has('name')) headers[params.get('name')] = params.get('value');
    return new Response(body, { status: Number(params.get('status') ?? 200), headers });
  },
  // Made of another response: its body is given on, and is then nobody else's.
  async '/rewrapped'({ params }) {
    const first = new Response('of the first', { headers: { 'x-first': '1' } });
    const { body } = first;
    if (params.has('look')) body.getReader().releaseLock();
    const second = new Response(body, first);
    second.headers.set('x-second', '2');
    second.headers.set('x-read', params.has('read') ? await second.clone().text() : '');
    if (!params.has('again')) return second;
    const used = [first.bodyUsed, second.bodyUsed];
    const text = await second.text();
    return Response.json([...used, text, first.bodyUsed, await first.text().catch(({ name }) => name)]);
  },
  '/cookies': () => new Response('', { headers: [['set-cookie', 'a=1; Path=/'], ['set-cookie', 'b=2']] }),
  '/json': () => Response.json({ a: [1, null] }),
  '/status': ({ params }) => new Response(null, { status: Number(params.get('code')) }),
  '/redirect': ({ params }) =>
    new Response(null, { status: Number(params.get('code') ?? 302), headers: { location: params.get('to') } }),
  '/loop': () => new Response(null, { status: 302, headers: { location: '/loop' } }),
  async '/slow'({ params }) {
    const ms = Number(params.get('ms'));
    const chunks = Number(params.get('chunks') ?? 0);
    if (chunks === 0) {
      await pause(ms);
      return new Response('slow');
    }
    let sent = 0;
    return new Response(
      new ReadableStream({
        async pull(controller) {
          if (sent > 0) await pause(ms);
          controller.enqueue(new TextEncoder().encode('chunk'));
          sent += 1;
          if (sent === chunks) controller.close();
        },
      }),
    );
  },
  '/remember'({ params, ctx }) {
    ctx.waitUntil(pause(Number(params.get('ms'))).then(() => remembered.add(params.get('name'))));
    return new Response('answered');
  },
  // Something that lasts for twenty requests.
  '/keep'({ params }) {
    kept.push(params.get('kind') === 'bytes' ? new Uint8Array(20_000) : Array.from({ length: 500 }, (_, i) => ({ i })));
    if (kept.length > 20) kept.shift();
    return new Response('kept');
  },
  '/throw': () => {
    throw new RangeError('thrown as asked', { cause: new Error('the cause') });
  },
  '/log-error': () => {
    const error = new RangeError('logged as asked', { cause: new Error('its cause') });
    console.error('it failed:', error);
    return new Response(error.stack);
  },
  '/levels': () => {
    console.debug('level debug', { a: 1 });
    console.info('level info');
    console.log('level log');
    console.warn('level warn\nlevel warn, continued');
    console.error(new RangeError('level error'));
    console.log('\x04 level log of a text with a mark');
    console.warn('level warn of a text \x17\n\x01 level warn with marks');
    console.warn({ a: 'level of an object \x17\n\x01 level of an object with marks' });
    console.trace('level trace');
    return new Response('said');
  },
  '/reject': () => {
    Promise.reject(new RangeError('rejected as asked'));
    Promise.reject(new RangeError('handled at once')).catch(() => {});
    return new Response('rejected');
  },
  // What the request leaves is given up, which is no rejection that anybody should have handled.
  '/reject-nothing': ({ request }) => {
    fetch(new URL('/slow?ms=1000', request.url)).then((response) => response.text());
    return new Response('left');
  },
  // The engine refuses the literal.
  '/unicode': () => new Response(String(/\p{Nothing}/u.test('ä'))),
  '/no-response': () => 'a string',
  '/throw-late': () =>
    new Response(
      new ReadableStream({
        async pull(controller) {
          if (this.sent) {
            await pause(50);
            throw new RangeError('thrown late');
          }
          this.sent = true;
          controller.enqueue(new TextEncoder().encode('half'));
        },
      }),
    ),
  '/hang': () => new Promise(() => {}),
  async '/hang-later'() {
    await pause(10);
    await new Promise(() => {});
  },
  '/hang-afterwards': ({ ctx }) => {
    ctx.waitUntil(new Promise(() => {}));
    return new Response('answered');
  },
  '/linger': ({ params, ctx }) => {
    ctx.waitUntil(pause(Number(params.get('ms'))).then(() => console.log('lingered')));
    ctx.waitUntil(Promise.reject(new RangeError('rejected afterwards')));
    return new Response('done');
  },
  '/leave-timer': () => {
    setTimeout(() => console.log('a timer of another request'), 1);
    return new Response('left');
  },
  async '/leave'() {
    const found = { requests: left.requests, marks: performance.getEntries().length };
    if (found.requests > 0) {
      performance.mark('seen by no observer');
      left.port.onmessage = () => { left.messages += 1; };
      left.controller.abort();
      await pause(5);
      const url = await fetch(left.url).then((response) => response.text(), () => 'nothing');
      Object.assign(found, { observed: left.observed, messages: left.messages, aborted: left.aborted, url });
    }
    left.requests += 1;
    performance.mark('a mark');
    new PerformanceObserver(() => { left.observed += 1; }).observe({ type: 'mark' });
    left.url = URL.createObjectURL(new Blob(['of a request']));
    const { port1, port2 } = new MessageChannel();
    port1.postMessage('of a request');
    left.port = port2;
    left.controller = new AbortController();
    AbortSignal.any([left.controller.signal]).onabort = () => { left.aborted += 1; };
    return Response.json(found);
  },
  '/*': ({ request }) => new Response(`${request.method} ${request.url}`),
  '/cookie': ({ request }) => Response.json([request.headers.get('cookie'), request.headers.get('x-a')]),
  '/host': ({ request }) => new Response(request.headers.get('host')),
  '/remembered': ({ params }) => new Response(remembered.has(params.get('name')) ? 'yes' : 'no'),
};

export default {
  async fetch(request, env, ctx) {
    clock.first ??= performance.now();
    const { pathname, searchParams } = new URL(request.url);
    const route = routes[pathname];
    return route === undefined
      ? new Response('not found', { status: 404 })
      : route({ request, env, ctx, params: searchParams, clock });
  },
};
