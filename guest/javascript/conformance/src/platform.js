// AbortController, events, timers, crypto, console, structuredClone, Blob, FormData and what else is global.

import { about, check, equal, ok, said, throws } from './check.js';

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const bytes = (text) => new TextEncoder().encode(text);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

about('AbortController, events');
check('AbortController: abort sets the signal', () => {
  const controller = new AbortController();
  ok(!controller.signal.aborted);
  controller.abort();
  equal([controller.signal.aborted, controller.signal.reason.name], [true, 'AbortError']);
});
check('AbortController: a reason, and throwIfAborted', () => {
  const controller = new AbortController();
  controller.abort(new RangeError('x'));
  return throws('RangeError', () => controller.signal.throwIfAborted());
});
check('AbortSignal: listeners and onabort', () => {
  const controller = new AbortController();
  let count = 0;
  controller.signal.addEventListener('abort', () => { count += 1; });
  controller.signal.onabort = () => { count += 10; };
  controller.abort();
  controller.abort();
  equal(count, 11);
});
check('AbortSignal.abort', () => ok(AbortSignal.abort().aborted));
check('AbortSignal.timeout', async () => {
  const signal = AbortSignal.timeout(1);
  await pause(20);
  equal([signal.aborted, signal.reason?.name], [true, 'TimeoutError']);
});
check('AbortSignal.any', () => {
  const controller = new AbortController();
  const signal = AbortSignal.any([new AbortController().signal, controller.signal]);
  controller.abort('x');
  equal([signal.aborted, signal.reason], [true, 'x']);
});
check('EventTarget, Event', () => {
  const target = new EventTarget();
  let seen;
  target.addEventListener('x', (event) => { seen = [event.type, event.target === target]; }, { once: true });
  target.dispatchEvent(new Event('x'));
  equal(seen, ['x', true]);
});
check('Event: preventDefault', () => {
  const target = new EventTarget();
  target.addEventListener('x', (event) => event.preventDefault());
  equal(target.dispatchEvent(new Event('x', { cancelable: true })), false);
});
check('CustomEvent', () => equal(new CustomEvent('x', { detail: 1 }).detail, 1));
check('DOMException', () => {
  const error = new DOMException('x', 'AbortError');
  equal([error.name, error.message, error.code, error instanceof Error], ['AbortError', 'x', 20, true]);
});

about('timers, clocks, microtasks');
check('setTimeout: in the order of their times', async () => {
  const seen = [];
  setTimeout(() => seen.push('late'), 15);
  setTimeout(() => seen.push('early'), 1);
  await pause(40);
  equal(seen, ['early', 'late']);
});
check('setTimeout: waits', async () => {
  const began = Date.now();
  await pause(30);
  ok(Date.now() - began >= 29);
});
check('setTimeout: in order when thousands wait, without those that are stopped', async () => {
  const fired = [];
  let left = 1000;
  await new Promise((resolve) => {
    for (let index = 0; index < 4000; index++) {
      // A permutation of the delays.
      const ms = Math.floor(((index * 1009) % 4000) / 100);
      const one = { earliest: performance.now() + ms };
      const timer = setTimeout(() => {
        fired.push({ ...one, at: performance.now() });
        if (--left === 0) resolve();
      }, ms);
      one.latest = performance.now() + ms;
      if (index % 4 !== 0) clearTimeout(timer);
    }
  });
  ok(fired.every(({ earliest, latest, at }, index) => at >= earliest - 1 && (index === 0 || fired[index - 1].earliest <= latest)));
  await pause(50);
  equal(left, 0);
});
check('setTimeout: one of thousands takes no longer than one of hundreds', async () => {
  const each = async (count) => {
    const began = performance.now();
    await Promise.all(Array.from({ length: count }, () => pause(0)));
    return (performance.now() - began) / count;
  };
  const few = Math.max(await each(300), await each(300));
  ok((await each(6000)) < 4 * few);
});
check('setInterval: beside others, until it is stopped', async () => {
  let [ticks, others] = [0, 0];
  const timer = setInterval(() => { if (++ticks === 5) clearInterval(timer); }, 2);
  const other = setInterval(() => { others += 1; }, 3);
  await pause(80);
  clearInterval(other);
  ok(ticks === 5 && others > 5);
  const before = others;
  await pause(20);
  equal(others, before);
});
check('setTimeout: one that sets itself again and again lets a request go on', async ({ request }) => {
  let isDone = false;
  const again = () => { if (!isDone) setTimeout(again, 0); };
  again();
  const response = await fetch(new URL('/json', request.url));
  isDone = true;
  equal(response.status, 200);
});
check('setTimeout: arguments', async () => equal(await new Promise((resolve) => setTimeout((a, b) => resolve(a + b), 0, 1, 2)), 3));
check('clearTimeout', async () => {
  let fired = false;
  clearTimeout(setTimeout(() => { fired = true; }, 1));
  await pause(10);
  ok(!fired);
});
check('setTimeout: what is no number of 32 bits is 0', async () => {
  for (const ms of [Infinity, -Infinity, NaN, 2 ** 31, 'soon', undefined, 1e300]) {
    const began = Date.now();
    await pause(ms);
    ok(Date.now() - began < 2000);
  }
});
check('setTimeout: the longest there is does not fire at once', async () => {
  let fired = false;
  const timer = setTimeout(() => { fired = true; }, 2 ** 31 - 1);
  await pause(5);
  clearTimeout(timer);
  ok(!fired);
});
check('AbortSignal.timeout: Infinity is a TypeError, years are not', async () => {
  await throws('TypeError', () => AbortSignal.timeout(Infinity));
  await throws('TypeError', () => AbortSignal.timeout(-1));
  ok(!AbortSignal.timeout(Number.MAX_SAFE_INTEGER).aborted);
});
check('setInterval, clearInterval', async () => {
  let count = 0;
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      count += 1;
      if (count === 3) {
        clearInterval(timer);
        resolve();
      }
    }, 1);
  });
  await pause(10);
  equal(count, 3);
});
check('microtasks run before the next timer', async () => {
  const seen = [];
  setTimeout(() => {
    seen.push('one');
    queueMicrotask(() => seen.push('microtask'));
  }, 0);
  setTimeout(() => seen.push('two'), 0);
  await pause(20);
  equal(seen, ['one', 'microtask', 'two']);
});
check('queueMicrotask', async () => {
  const seen = [];
  queueMicrotask(() => seen.push('microtask'));
  seen.push('now');
  await null;
  equal(seen, ['now', 'microtask']);
});
check('Date.now, performance.now go on', async () => {
  const [date, time] = [Date.now(), performance.now()];
  ok(date > 1_700_000_000_000);
  await pause(5);
  ok(Date.now() > date && performance.now() > time);
});
check('performance.timeOrigin', () => ok(Math.abs(performance.timeOrigin + performance.now() - Date.now()) < 60_000));

about('crypto');
check('crypto.getRandomValues', () => {
  const [one, other] = [crypto.getRandomValues(new Uint8Array(16)), crypto.getRandomValues(new Uint8Array(16))];
  ok(hex(one) !== hex(other) && one.some((byte) => byte !== 0));
});
check('crypto.getRandomValues: above 65536 bytes is a QuotaExceededError', () =>
  throws('QuotaExceededError', () => crypto.getRandomValues(new Uint8Array(65537))));
check('crypto.randomUUID', () => ok(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())));
check('Math.random', () => ok(Math.random() !== Math.random()));
for (const [name, sum] of [
  ['SHA-1', 'a9993e364706816aba3e25717850c26c9cd0d89d'],
  ['SHA-256', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  ['SHA-384', 'cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7'],
  ['SHA-512', 'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f'],
]) {
  check(`crypto.subtle.digest: ${name}`, async () => equal(hex(await crypto.subtle.digest(name, bytes('abc'))), sum));
}
check('crypto.subtle.digest: an unknown name is a NotSupportedError', () => throws('NotSupportedError', () => crypto.subtle.digest('X', bytes('a'))));
check('crypto.subtle: HMAC, sign and verify', async () => {
  const key = await crypto.subtle.importKey('raw', bytes('key'), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
  const signature = await crypto.subtle.sign('HMAC', key, bytes('The quick brown fox jumps over the lazy dog'));
  equal(hex(signature), 'f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8');
  ok(await crypto.subtle.verify('HMAC', key, signature, bytes('The quick brown fox jumps over the lazy dog')));
  ok(!(await crypto.subtle.verify('HMAC', key, signature, bytes('another'))));
});
check('crypto.subtle: HMAC, a key of a JWK', async () => {
  const jwk = { kty: 'oct', k: 'a2V5', alg: 'HS256', ext: true };
  const key = await crypto.subtle.importKey('jwk', jwk, { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
  equal((await crypto.subtle.sign('HMAC', key, bytes('a'))).byteLength, 32);
});
check('crypto.subtle: ECDSA with P-256, a key of a JWK signs and verifies', async () => {
  const how = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const part = { kty: 'EC', crv: 'P-256', x: 'TtGeeZjavSUCz7_fzxWU5SpFrk5-RTSJOoL00YCJQg8', y: '_ZvH7B7Wn6Hw7ynBfqrdu4bBwv2n4VFpAu4CeV69Ilc' };
  const secret = await crypto.subtle.importKey('jwk', { ...part, d: 'oMW_m2u-uNpJkfHwoMylm0xh1FJ4oBaSYpxXLpTvFW4' }, how, false, ['sign']);
  const known = await crypto.subtle.importKey('jwk', part, how, false, ['verify']);
  const signature = await crypto.subtle.sign(how, secret, bytes('a'));
  ok(await crypto.subtle.verify(how, known, signature, bytes('a')));
  ok(!(await crypto.subtle.verify(how, known, signature, bytes('b'))));
});
check('crypto.subtle: RSASSA-PKCS1-v1_5, a key of a JWK verifies', async () => {
  const how = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  const n =
    'vCzokCItWiPdz7Vk3X2cV8NfSu5zE-UgCvJRGFG5twc9qZ_zmRZArfOD0S-p-hJ_P9TGeZG5_EKIsezEwZG6J53QQFYuot2B2gDbuxGtCk9TlBwPhC0' +
    'C7V_GUfczj3oCurVXAm8CEH6sXEuq_wnV52SzxedEicA1gVYb_cbQryt1njoKyabZcptHzQ7ulyOf33B9LLCKboFfKVqOzVLakMKr1S6n2YuACRln74' +
    '2wUVzFk_DYqr79Y0wxsBBAeLaRcSUDamIme7GgzVgq4OhRKZsHsDmXnSeRvlYzgTOvFtZYKzh0aNEURUXpKqy7amwHEskHanuNlvmrV7PYnfhL1Q';
  const signature = Uint8Array.from(
    atob(
      'En6KEG2Yep8Lo0SUet0JSzTUTM3VpJrnycUdRAY/6mOyZoidUBaZqtfmwH/78hPmv8ZVyc9wFzvY7qZrREaFH8g2sv5TGFIL5lH/y3NfV3zo7tyXQz7' +
        'Eq3hhLmhB5cl9HliTEZHa5Bz2V2tYTroVIckEL3P4Uz2IZYOWnUywBN+YSKZ64dP6l9PNPcrOcJfy1ZZNRQHMcCd3utCcRFKt/WjmJ5GngOWT5AtA2N' +
        'G6ajQxnF0Iy2q1WowLbqGqylZ+2V3HYPMAN2DgczUCuYZrHDCSHEF7QQ0Oy+pUFb1Pt25YGMrO4OI0CrKTW2MwhjYzesX48846WKhefL/Lp5g8vg==',
    ),
    (char) => char.charCodeAt(0),
  );
  const key = await crypto.subtle.importKey('jwk', { kty: 'RSA', n, e: 'AQAB' }, how, false, ['verify']);
  ok(await crypto.subtle.verify(how, key, signature, bytes('a')));
  ok(!(await crypto.subtle.verify(how, key, signature, bytes('b'))));
});
check('crypto.subtle: ECDSA with P-256, generate, sign and verify', async () => {
  const pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const how = { name: 'ECDSA', hash: 'SHA-256' };
  const signature = await crypto.subtle.sign(how, pair.privateKey, bytes('a'));
  ok(await crypto.subtle.verify(how, pair.publicKey, signature, bytes('a')));
});
check('crypto.subtle: RSASSA-PKCS1-v1_5, generate', async () => {
  const how = { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' };
  ok((await crypto.subtle.generateKey(how, true, ['sign', 'verify'])).privateKey instanceof CryptoKey);
});
check('crypto.subtle: AES-GCM, there and back', async () => {
  const key = await crypto.subtle.importKey('raw', new Uint8Array(16), 'AES-GCM', false, ['encrypt', 'decrypt']);
  const how = { name: 'AES-GCM', iv: new Uint8Array(12) };
  const sealed = await crypto.subtle.encrypt(how, key, bytes('secret'));
  equal(new TextDecoder().decode(await crypto.subtle.decrypt(how, key, sealed)), 'secret');
});
check('crypto.subtle: PBKDF2', async () => {
  const key = await crypto.subtle.importKey('raw', bytes('password'), 'PBKDF2', false, ['deriveBits']);
  const how = { name: 'PBKDF2', salt: bytes('salt'), iterations: 1, hash: 'SHA-256' };
  equal(hex(await crypto.subtle.deriveBits(how, key, 256)), '120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b');
});

about('console');
// The test looks for each of these lines in the host's log, where what a guest prints comes out.
for (const level of ['log', 'info', 'warn', 'error', 'debug']) {
  check(`console.${level}`, () => said(`conformance ${level} `, () => console[level]('conformance', level, { a: [1] })));
}
check('console: an error is shown with its message and place', () =>
  said('Error: shown', () => console.log('it was', new Error('shown'))));
check('console: a request, a response and a stream are shown in short', () =>
  said('it was Request { method: "PUT", url: "http://a.test/" } Response { status: 201, url: "" } [object ReadableStream]', () =>
    console.log('it was', new Request('http://a.test', { method: 'PUT' }), new Response('x', { status: 201 }), new ReadableStream())));
check('console.trace', () => said('conformance trace', () => console.trace('conformance trace')));
check('console.table', () => said('conformance-cell', () => console.table([{ a: 'conformance-cell' }])));
check('console.dir', () => said('conformance-dir', () => console.dir({ a: 'conformance-dir' })));
check('console.count', () => said('conformance-count: 2', () => {
  console.count('conformance-count');
  console.count('conformance-count');
}));
check('console.assert: tells of what does not hold', () =>
  said('conformance: does not hold', () => console.assert(false, 'conformance: does not hold')));
check('console.group: indents', () => said('  conformance in a group', () => {
  console.group('conformance-group');
  console.log('conformance in a group');
  console.groupEnd();
}));
check('console.time, timeEnd', () => said('conformance-time', () => {
  console.time('conformance-time');
  console.timeEnd('conformance-time');
}));

about('structuredClone');
check('structuredClone: nested, cyclic, Date, Map, Set', () => {
  const value = { date: new Date(0), map: new Map([[1, new Set([2])]]), bytes: new Uint8Array([3]) };
  value.self = value;
  const copy = structuredClone(value);
  ok(copy !== value && copy.self === copy && copy.map !== value.map);
  equal([copy.date.getTime(), [...copy.map.get(1)], copy.bytes[0]], [0, [2], 3]);
});
check('structuredClone: an Error keeps its name and message', () => {
  const copy = structuredClone(new RangeError('x'));
  equal([copy instanceof RangeError, copy.message], [true, 'x']);
});
check('structuredClone: transfer takes the buffer', () => {
  const { buffer } = new Uint8Array(4);
  const copy = structuredClone(buffer, { transfer: [buffer] });
  equal([buffer.byteLength, copy.byteLength], [0, 4]);
});
check('structuredClone: a function is a DataCloneError', () => throws('DataCloneError', () => structuredClone(() => {})));

about('Blob, File, FormData');
check('Blob: size, type, text', async () => {
  const blob = new Blob(['ä', new Uint8Array([98])], { type: 'A/B' });
  equal([blob.size, blob.type, await blob.text()], [3, 'a/b', 'äb']);
});
check('Blob: of a Blob', async () => equal(await new Blob(['a', new Blob(['b']), new File(['c'], 'f')]).text(), 'abc'));
check('Blob: slice', async () => equal(await new Blob(['abcd']).slice(1, -1).text(), 'bc'));
check('Blob: arrayBuffer, bytes', async () => {
  equal([...new Uint8Array(await new Blob(['ab']).arrayBuffer())], [97, 98]);
  equal([...(await new Blob(['ab']).bytes())], [97, 98]);
});
check('Blob: stream', async () => equal(await new Response(new Blob(['abc']).stream()).text(), 'abc'));
check('File', () => {
  const file = new File(['x'], 'a.txt', { type: 'a/b', lastModified: 5 });
  equal([file.name, file.size, file.type, file.lastModified, file instanceof Blob], ['a.txt', 1, 'a/b', 5, true]);
});
check('FormData: append, getAll, set, delete, has', () => {
  const form = new FormData();
  form.append('a', '1');
  form.append('a', '2');
  equal(form.getAll('a'), ['1', '2']);
  form.set('a', '3');
  equal([form.get('a'), form.has('a'), form.get('b')], ['3', true, null]);
  form.delete('a');
  ok(!form.has('a'));
});
check('FormData: a Blob becomes a File', () => {
  const form = new FormData();
  form.append('f', new Blob(['x']), 'f.bin');
  const file = form.get('f');
  equal([file instanceof File, file.name, Math.abs(file.lastModified - Date.now()) < 60_000], [true, 'f.bin', true]);
});
check('FormData: iteration', () => {
  const form = new FormData();
  form.append('a', '1');
  form.append('b', '2');
  equal([...form], [['a', '1'], ['b', '2']]);
});

about('others');
check('globalThis and self', () => ok(globalThis === self));
check('navigator.userAgent', () => equal(typeof navigator.userAgent, 'string'));
check('navigator: appName, platform and others', () => equal([typeof navigator.appName, typeof navigator.platform], ['string', 'string']));
check('performance: entries of fetches', () => ok(typeof performance.setResourceTimingBufferSize === 'function'));
check('WebSocketPair of Workers', () => equal(typeof WebSocketPair, 'function'));
check('WebSocket', () => equal(typeof WebSocket, 'function'));
check('reportError: on stderr', () => said('reported as asked', () => reportError(new Error('reported as asked'))));
check('reportError: the event error', () => {
  let seen;
  const listener = (event) => { seen = event.error; };
  addEventListener('error', listener);
  const error = new Error('an error for a listener');
  reportError(error);
  removeEventListener('error', listener);
  ok(seen === error);
});
check('unhandledrejection', async () => {
  let seen;
  const listener = (event) => { seen = event.reason; };
  addEventListener('unhandledrejection', listener);
  Promise.reject('nobody waits');
  await pause(20);
  removeEventListener('unhandledrejection', listener);
  equal(seen, 'nobody waits');
});
check('unhandledrejection: not of a promise that is handled in the same turn', async () => {
  const seen = [];
  const listener = (event) => { seen.push(event.reason); };
  addEventListener('unhandledrejection', listener);
  const handled = Promise.reject('handled in time');
  await null;
  handled.catch(() => {});
  await pause(20);
  removeEventListener('unhandledrejection', listener);
  equal(seen, []);
});
check('unhandledrejection: a PromiseRejectionEvent with the promise, which can be cancelled', async () => {
  let seen;
  const listener = (event) => {
    seen = event;
    event.preventDefault();
  };
  addEventListener('unhandledrejection', listener);
  const promise = (async () => { throw new RangeError('of an async function'); })();
  await pause(20);
  removeEventListener('unhandledrejection', listener);
  ok(seen instanceof PromiseRejectionEvent && seen.promise === promise && seen.cancelable && seen.defaultPrevented);
  equal([seen.reason.message, Object.prototype.toString.call(seen)], ['of an async function', '[object PromiseRejectionEvent]']);
});
check('unhandledrejection: the log tells of it with its place', () =>
  said('Unhandled rejection: RangeError: told in the log', () => { Promise.reject(new RangeError('told in the log')); }));
check('console.trace: the places are the source\'s', () => said('at said@src/check.js', () => console.trace('traced')));
check('EventSource', () => equal(typeof EventSource, 'function'));
check('BroadcastChannel', () => equal(typeof BroadcastChannel, 'function'));
about('the language');
check('Intl: numbers, dates', () => {
  equal(new Intl.NumberFormat('en-US').format(1234.5), '1,234.5');
  equal(new Date(0).toLocaleDateString('en-US', { timeZone: 'UTC' }), '1/1/1970');
});
check('String.prototype.normalize, localeCompare', () => equal(['e\u0301'.normalize('NFC'), 'a'.localeCompare('b')], ['é', -1]));
check('WeakRef: gives what is held elsewhere too', async () => {
  const held = { a: 1 };
  const weak = new WeakRef(held);
  await pause(1);
  equal([weak.deref() === held, weak.deref().a], [true, 1]);
});
check('FinalizationRegistry: calls back', async () => {
  const gone = new Set();
  const registry = new FinalizationRegistry((name) => gone.add(name));
  for (let index = 0; index < 2000; index++) registry.register({ content: new Uint8Array(20_000) }, index);
  // 40 MB of garbage, and turns of the event loop in which callbacks could run.
  for (let turn = 0; turn < 50 && gone.size === 0; turn++) await pause(2);
  ok(gone.size > 0);
});
check('BigInt, typed arrays of it', () => equal(String(new BigInt64Array([2n ** 62n])[0]), '4611686018427387904'));
check('Atomics, SharedArrayBuffer', () => equal([typeof Atomics, typeof SharedArrayBuffer], ['object', 'function']));
check('WebAssembly', () => equal(typeof WebAssembly, 'object'));
check('eval and new Function', () => equal([(0, eval)('1 + 1'), new Function('return 2')()], [2, 2]));
check('dynamic import of a module in the bundle', async () => equal((await import('./later.js')).value, 'later'));
check('Array.fromAsync, Object.groupBy, Promise.withResolvers', async () => {
  equal(await Array.fromAsync([Promise.resolve(1)]), [1]);
  equal(Object.groupBy([1, 2], (n) => (n > 1 ? 'a' : 'b')).a, [2]);
  const { promise, resolve } = Promise.withResolvers();
  resolve(1);
  equal(await promise, 1);
});
check('regular expressions: named groups, look-behind', () => {
  equal('a1'.match(new RegExp('(?<digit>(?<=a)\\d)')).groups.digit, '1');
});
check('regular expressions: classes of Unicode', () => {
  ok(new RegExp('\\p{Letter}', 'u').test('ä'));
  ok(/^\p{Lu}\P{Lu}$/u.test('Äö') && !/^\p{Lu}/u.test('ä'));
  ok(/^\p{Script=Gothic}$/u.test('𐌰') && /^\p{Extended_Pictographic}$/u.test('😀'));
  ok(/^\p{Lu}$/iu.test('ä'));
});
check('regular expressions: classes of Unicode begin and end where they do', () => {
  for (const [pattern, within, beside] of [
    [/^\p{Lu}$/u, 'A Z À Ö Ø Þ \u{10400} \u{10427}', '@ [ × ß \u{103ff} \u{10428}'],
    [/^\p{Script=Gothic}$/u, '\u{10330} \u{1034a}', '\u{1032f} \u{1034b}'],
    [/^\p{Cs}$/u, '\ud800 \udfff', '\ud7ff \ue000'],
    [/^\p{Co}$/u, '\ue000 \uf8ff \u{f0000} \u{10fffd}', '\udfff \uf900 \u{effff} \u{10fffe}'],
  ]) {
    for (const character of within.split(' ')) ok(pattern.test(character));
    for (const character of beside.split(' ')) ok(!pattern.test(character));
  }
});
check('regular expressions: classes of Unicode in brackets', () => {
  equal('a1-ä_𐌰 €'.match(/[\p{L}\p{N}_]+/gu), ['a1', 'ä_𐌰']);
  equal('a1 ä'.match(/[^\p{L}\s]/gu), ['1']);
  equal('a1ä'.match(/[\P{L}]/gu), ['1']);
  ok(/^[\]\p{L}[]+$/u.test(']ä['));
  ok(/^[\p{L}&&[a-zé]]$/v.test('é') && !/^[\p{L}--[a-z]]$/v.test('a'));
});
check('regular expressions: classes of Unicode are shown as they were given', () => {
  const one = /[\p{L}]+x/gu;
  equal([one.source, `${one}`, one.flags], ['[\\p{L}]+x', '/[\\p{L}]+x/gu', 'gu']);
  equal(['aäx bx'.split(/\P{L}+/u), [...'äx bx'.matchAll(one)].length], [['aäx', 'bx'], 2]);
  ok(new RegExp(one, 'u').test('äx') && RegExp('^\\p{L}$', 'u').test('ß') && one instanceof RegExp && one.constructor === RegExp);
  class Own extends RegExp {}
  ok(new Own('\\p{L}', 'u') instanceof Own && new Own('\\p{L}', 'u').test('ä'));
  ok(!/\p{L}/.test('ä') && /\p{L}/.test('p{L}'));
});
check('regular expressions: sets', () => ok(new RegExp('[\\w--a]', 'v').test('b')));
