// Listeners, abort signals, channels of messages, the timeline, microtasks.

import { about, check, equal, ok, said, throws } from './check.js';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

about('listeners and signals');
check('addEventListener: a signal removes the listener', () => {
  const [target, controller] = [new EventTarget(), new AbortController()];
  let count = 0;
  const listener = () => { count += 1; };
  target.addEventListener('x', listener, { signal: controller.signal });
  target.addEventListener('y', listener, { signal: controller.signal, once: true, capture: true });
  target.dispatchEvent(new Event('x'));
  target.dispatchEvent(new Event('x'));
  controller.abort();
  for (const type of ['x', 'y']) target.dispatchEvent(new Event(type));
  equal(count, 2);
});
check('addEventListener: a signal that came before, one within a listener, and what is none', async () => {
  const [target, controller] = [new EventTarget(), new AbortController()];
  const seen = [];
  target.addEventListener('x', () => seen.push('never'), { signal: AbortSignal.abort() });
  target.addEventListener('x', () => controller.abort(), { signal: controller.signal });
  target.addEventListener('x', () => seen.push('removed meanwhile'), { signal: controller.signal });
  target.addEventListener('x', () => seen.push('stays'));
  target.dispatchEvent(new Event('x'));
  equal(seen, ['stays']);
  await throws('TypeError', () => target.addEventListener('x', () => {}, { signal: null }));
});
check('addEventListener: on the global object', () => {
  const controller = new AbortController();
  const seen = [];
  addEventListener('conformance', function (event) { seen.push(event.type, this === globalThis); }, { signal: controller.signal });
  dispatchEvent(new Event('conformance'));
  controller.abort();
  dispatchEvent(new Event('conformance'));
  equal(seen, ['conformance', true]);
});
check('addEventListener: a signal that comes late leaves a listener that was added again', () => {
  const [target, controller] = [new EventTarget(), new AbortController()];
  let count = 0;
  const listener = () => { count += 1; };
  target.addEventListener('x', listener, { signal: controller.signal });
  target.removeEventListener('x', listener);
  target.addEventListener('x', listener);
  controller.abort();
  target.dispatchEvent(new Event('x'));
  equal(count, 1);
});
check('listeners: one that is removed and added again within its event is called once', () => {
  const target = new EventTarget();
  let count = 0;
  const listener = () => {
    count += 1;
    target.removeEventListener('x', listener);
    target.addEventListener('x', listener, { once: count === 2 });
  };
  target.addEventListener('x', listener);
  target.dispatchEvent(new Event('x'));
  equal(count, 1);
  target.dispatchEvent(new Event('x'));
  target.dispatchEvent(new Event('x'));
  equal(count, 3);
});
check('listeners: this, handleEvent, each once, removed ones', () => {
  const target = new EventTarget();
  const seen = [];
  const object = { handleEvent(event) { seen.push(this === object, event.currentTarget === target); } };
  const removed = () => seen.push('removed');
  function own() { seen.push(this === target); }
  target.addEventListener('x', own);
  target.addEventListener('x', own);
  target.addEventListener('x', () => target.removeEventListener('x', removed));
  target.addEventListener('x', removed);
  target.addEventListener('x', object);
  target.dispatchEvent(new Event('x'));
  equal(seen, [true, true, true]);
});
check('listeners: one that throws is told of, and the others are called', () => said('Error: thrown by a listener', () => {
  const target = new EventTarget();
  let called = false;
  target.addEventListener('x', () => { throw new Error('thrown by a listener'); });
  target.addEventListener('x', () => { called = true; });
  ok(target.dispatchEvent(new Event('x')) && called);
}));
check('listeners: stopImmediatePropagation, passive', () => {
  const target = new EventTarget();
  let count = 0;
  target.addEventListener('x', (event) => { event.preventDefault(); }, { passive: true });
  target.addEventListener('x', (event) => { count += 1; event.stopImmediatePropagation(); });
  target.addEventListener('x', () => { count += 10; });
  equal([target.dispatchEvent(new Event('x', { cancelable: true })), count], [true, 1]);
});
check('AbortSignal: the event is trusted', () => {
  const controller = new AbortController();
  let trusted;
  controller.signal.addEventListener('abort', (event) => { trusted = event.isTrusted; });
  controller.abort();
  ok(trusted);
});
check('AbortSignal.any: all are aborted before the first event, which come in order', () => {
  const controller = new AbortController();
  const one = AbortSignal.any([controller.signal]);
  const two = AbortSignal.any([one, new AbortController().signal]);
  const three = AbortSignal.any([two, one]);
  let order = '';
  [two, controller.signal, three, one].forEach((signal, index) => {
    signal.addEventListener('abort', () => { order += `${index}${three.aborted && three.reason === 'why'} `; });
  });
  controller.abort('why');
  equal(order, '1true 3true 0true 2true ');
});
check('AbortSignal.any: what is no signal is a TypeError', () => throws('TypeError', () => AbortSignal.any([{}])));

about('MessageChannel');
check('MessageChannel: messages arrive in order, in a later turn', async () => {
  const { port1, port2 } = new MessageChannel();
  const seen = [];
  port2.onmessage = (event) => seen.push(event.data, event instanceof MessageEvent);
  port1.postMessage({ a: [1] });
  port1.postMessage(undefined);
  seen.push('posted');
  await pause(10);
  equal(seen, ['posted', { a: [1] }, true, undefined, true]);
});
check('MessageChannel: messages wait for start(), none comes after close()', async () => {
  const { port1, port2 } = new MessageChannel();
  const seen = [];
  port2.addEventListener('message', ({ data }) => seen.push(data));
  port1.postMessage(1);
  await pause(5);
  equal(seen, []);
  port2.start();
  await pause(5);
  port2.close();
  port1.postMessage(2);
  await pause(5);
  equal(seen, [1]);
});
check('MessageChannel: a port as the message, and one beside it', async () => {
  const { port1, port2 } = new MessageChannel();
  const [one, other] = [new MessageChannel(), new MessageChannel()];
  const came = [];
  port2.onmessage = ({ data, ports }) => came.push(data === one.port1, ports.length, ports[0] === one.port1);
  port1.postMessage(one.port1, [one.port1]);
  port1.postMessage('beside', [other.port1]);
  await pause(10);
  equal(came, [true, 1, true, false, 1, false]);
});
check('MessageChannel: a port within a message', async () => {
  const { port1, port2 } = new MessageChannel();
  const sent = new MessageChannel();
  const came = new Promise((resolve) => { port2.onmessage = ({ data }) => resolve(data.port instanceof MessagePort); });
  port1.postMessage({ port: sent.port1 }, [sent.port1]);
  ok(await came);
});
check('MessageChannel: transfers buffers, and what cannot be cloned is a DataCloneError', async () => {
  const { port1, port2 } = new MessageChannel();
  const { buffer } = new Uint8Array(3);
  const came = new Promise((resolve) => { port2.onmessage = ({ data }) => resolve(data.byteLength); });
  port1.postMessage(buffer, [buffer]);
  equal([buffer.byteLength, await came], [0, 3]);
  await throws('DataCloneError', () => port1.postMessage(() => {}));
});

about('performance');
check('performance: is an EventTarget, with toJSON', () => {
  ok(performance instanceof EventTarget && performance instanceof Performance);
  equal(JSON.parse(JSON.stringify(performance)), { timeOrigin: performance.timeOrigin });
  equal(Object.keys(performance), []);
});
check('performance.now: is finer than a millisecond, and does not go back', () => {
  let last = performance.now();
  let isFine = false;
  for (let index = 0; index < 2000; index++) {
    const now = performance.now();
    ok(now >= last);
    isFine ||= now > last && now - last < 1;
    last = now;
  }
  ok(isFine);
});
check('performance.mark, getEntries, clearMarks', async () => {
  const detail = { a: [1] };
  const first = performance.mark('conformance-b', { startTime: 20, detail });
  performance.mark('conformance-a', { startTime: 10 });
  ok(first instanceof PerformanceMark && first instanceof PerformanceEntry && first.detail !== detail);
  equal([first.name, first.entryType, first.startTime, first.duration, first.detail], ['conformance-b', 'mark', 20, 0, { a: [1] }]);
  equal(performance.getEntriesByType('mark').map(({ name }) => name), ['conformance-a', 'conformance-b']);
  equal(performance.getEntriesByName('conformance-b').length, 1);
  equal(JSON.parse(JSON.stringify(first)), { name: 'conformance-b', entryType: 'mark', startTime: 20, duration: 0, detail: { a: [1] } });
  performance.clearMarks('conformance-a');
  equal(performance.getEntries().map(({ name }) => name), ['conformance-b']);
  performance.clearMarks();
  equal(performance.getEntries(), []);
  await throws('TypeError', () => performance.mark('x', { startTime: -1 }));
  await throws('TypeError', () => performance.mark());
});
check('performance.measure', async () => {
  performance.mark('from', { startTime: 0.01 });
  performance.mark('to', { startTime: 25.01 });
  const of = ({ startTime, duration, detail }) => [startTime, duration, detail];
  equal(of(performance.measure('m', 'from', 'to')), [0.01, 25, null]);
  equal(of(performance.measure('m', { start: 5, end: 'to', detail: 1 })).slice(1), [25.01 - 5, 1]);
  equal(of(performance.measure('m', { start: 'from', duration: 2 })).slice(1), [2.01 - 0.01, null]);
  equal(of(performance.measure('m', { end: 9, duration: 2 })), [7, 2, null]);
  ok(performance.measure('m').startTime === 0 && performance.measure('m', 'from').duration > 0);
  for (const args of [[{ start: 1, end: 2, duration: 1 }], [{ detail: 1 }], [{ start: 1 }, 'to'], [{ start: -1 }]]) {
    await throws('TypeError', () => performance.measure('m', ...args));
  }
  await throws('SyntaxError', () => performance.measure('m', 'no such mark'));
  equal(performance.getEntriesByType('measure').length, 6);
  performance.clearMeasures();
  performance.clearMarks();
  equal(performance.getEntries(), []);
});
check('PerformanceObserver', async () => {
  const seen = [];
  const observer = new PerformanceObserver((list, itself) => seen.push(...list.getEntries().map(({ name }) => name), itself === observer));
  performance.mark('before');
  observer.observe({ type: 'mark', buffered: true });
  performance.mark('after');
  performance.measure('not observed');
  equal(seen, []);
  await pause(5);
  equal(seen, ['before', 'after', true]);
  performance.mark('taken');
  equal(observer.takeRecords().map(({ name }) => name), ['taken']);
  await throws('TypeError', () => new PerformanceObserver(() => {}).observe({ entryTypes: 'mark' }));
  await throws('InvalidModificationError', () => observer.observe({ entryTypes: ['mark'] }));
  observer.disconnect();
  performance.mark('too late');
  await pause(5);
  equal(seen.length, 3);
  equal([...PerformanceObserver.supportedEntryTypes], ['mark', 'measure']);
  await throws('TypeError', () => new PerformanceObserver(() => {}).observe({}));
  performance.clearMarks();
  performance.clearMeasures();
});
check('performance.now: goes on from the top level to the first request', ({ clock }) => ok(clock.top > 0 && clock.first >= clock.top));

about('from one request to the next');
check('marks, observers, blob: URLs, messages and signals of a request are gone with it', async ({ request }) => {
  const gone = { marks: 0, observed: 0, messages: 0, aborted: 0, url: 'nothing' };
  let later = 0;
  // Until one instance has answered several times.
  for (let asked = 0; later < 3 && asked < 100; asked++) {
    const { requests, ...found } = await (await fetch(new URL('/leave', request.url))).json();
    if (requests > 0) equal(found, gone);
    later = Math.max(later, requests);
  }
  equal(later, 3);
});

about('microtasks and timers');
check('queueMicrotask: no arguments', async () => {
  equal(await new Promise((resolve) => queueMicrotask((...args) => resolve(args.length))), 0);
});
check('queueMicrotask: what is no function is a TypeError', () => throws('TypeError', () => queueMicrotask('x')));
check('queueMicrotask: an error is told of', () => said('Error: thrown by a microtask', () => {
  queueMicrotask(() => { throw new Error('thrown by a microtask'); });
}));
check('setTimeout: a text as handler', async () => {
  setTimeout('globalThis.conformanceTimer = 1', 1);
  await pause(10);
  equal(globalThis.conformanceTimer, 1);
});
check('setTimeout: 2 ** 32 is 0', async () => {
  const began = Date.now();
  await pause(2 ** 32);
  ok(Date.now() - began < 2000);
});

// Those that come while something is done, of which the first listener cancels each.
async function errorsOf(run) {
  const events = [];
  const listener = (event) => {
    events.push(event);
    event.preventDefault();
  };
  addEventListener('error', listener);
  try {
    await run();
    await pause(5);
  } finally {
    removeEventListener('error', listener);
  }
  return events;
}
check('the event error: of timers, listeners, microtasks and reportError', async () => {
  const target = new EventTarget();
  const fail = (message) => () => { throw new RangeError(message); };
  target.addEventListener('x', fail('a listener'));
  const events = await errorsOf(() => {
    setTimeout(fail('a timer'), 0);
    queueMicrotask(fail('a microtask'));
    target.dispatchEvent(new Event('x'));
    reportError('a text');
  });
  equal(events.map(({ error }) => error?.message ?? error), ['a listener', 'a text', 'a microtask', 'a timer']);
  for (const event of events) ok(event instanceof ErrorEvent && event.type === 'error' && event.cancelable);
  const [{ message, filename, lineno, colno }] = events;
  equal([message, filename.replace(/:.*/, '')], ['RangeError: a listener', 'src/events.js']);
  ok(lineno > 0 && colno > 0);
});
check('the event error: one that no listener cancels is told of', () =>
  said('Error: not cancelled', () => {
    const listener = () => {};
    addEventListener('error', listener);
    reportError(new Error('not cancelled'));
    removeEventListener('error', listener);
  }));
check('the event error: a listener that throws is told of once', () =>
  said('Error: thrown by a listener for errors', () => {
    const listener = () => { throw new Error('thrown by a listener for errors'); };
    addEventListener('error', listener, { once: true });
    reportError(new Error('x'));
  }));
check('onerror: five arguments, and true cancels', async () => {
  const seen = [];
  const error = new TypeError('x');
  onerror = (...args) => seen.push(args) > 0;
  reportError(error);
  onerror = null;
  await errorsOf(() => reportError(1));
  equal([seen.length, seen[0].length, seen[0][0], seen[0][4] === error, onerror], [1, 5, 'TypeError: x', true, null]);
});
check('reportError: getters of an object that is no error are not called', () => {
  let isAsked = false;
  reportError({ get message() { isAsked = true; return 'an object that is no error'; } });
  equal(isAsked, false);
});
check('reportError needs an argument', () => throws('TypeError', () => reportError()));
check('Event: returnValue, also of a passive listener', () => {
  const results = [{ passive: true }, { passive: false }].map((options) => {
    const [target, event] = [new EventTarget(), new Event('x', { cancelable: true })];
    target.addEventListener('x', () => { event.returnValue = false; }, options);
    target.dispatchEvent(event);
    return [event.defaultPrevented, event.returnValue];
  });
  equal(results, [[false, true], [true, false]]);
});
