// What the component exports: a call of `wasi:http/incoming-handler` becomes a call of the application's `fetch`, and its
// Response the answer. The call returns when all that was given to `ctx.waitUntil` has settled; the host then gives the
// instance to the next request, so nothing of this one may be left.

import './globals.js';
import * as app from 'wasmhost:app';

import { bound, vars } from './bindings.js';
import { takeBody } from './body.js';
import { environmentOf, fieldsOf, isDevelopment } from './development.js';
import { has, without } from './fields.js';
import { listeners } from './globals.js';
import { sendBody } from './host-body.js';
import { beginCall, endCall, microtasksOver, tell } from './loop.js';
import { look } from './rejections.js';
import { incoming } from './request.js';
import { listOfResponse, Response } from './response.js';
import { INNER } from './shape.js';
import { dropRequest, keptOutparam, plainTextList, respond, respondWhole, WHOLE_MAX } from './wasi.js';
import { eventOf } from './workers/scheduled.js';

const fetchOf = () => {
  const exported = app.default;
  if (typeof exported?.fetch === 'function') return (request, env, ctx) => exported.fetch(request, env, ctx);
  if (typeof exported === 'function' && exported.prototype === undefined) return exported;
  if (listeners.length > 0) return answerEvent;
  if (typeof exported?.scheduled === 'function') return () => new Response('this application answers no requests\n', { status: 404 });
  const what =
    exported === undefined
      ? 'nothing is exported by default'
      : typeof exported === 'function'
        ? 'what is exported by default is a class, or a function that makes objects, and not an object with `fetch`'
        : 'what is exported by default has no function `fetch`';
  // `build.mjs` knows these words.
  throw new Error(`the application has no handler: ${what}`);
};
const answerRequest = fetchOf();
const answer = typeof app.default?.scheduled === 'function' ? answerOrRun : answerRequest;

// Read by an instance's first request: what the build's environment was is of no interest.
let env = null;
const makeEnv = () => ({ ...vars, ...environmentOf(), ...bound });

const ignore = () => {};

class Context {
  waitUntil(promise) {
    (this[INNER] ??= []).push(promise);
    // It counts as handled: what it is rejected with is told of when the response was sent.
    if (promise instanceof Promise) promise.then(undefined, ignore);
  }

  // There is nothing behind the application that a request could be passed to.
  passThroughOnException() {}
}
// What was given to `waitUntil`.
Context.prototype[INNER] = null;

// Calls the listeners for `fetch` until one answers.
function answerEvent(request, _, ctx) {
  let response;
  const event = {
    type: 'fetch',
    request,
    waitUntil: (promise) => ctx.waitUntil(promise),
    passThroughOnException() {},
    respondWith(given) {
      if (response !== undefined) throw new DOMException('respondWith was called before', 'InvalidStateError');
      response = given;
    },
  };
  for (const listener of listeners) {
    if (typeof listener === 'function') listener(event);
    else listener.handleEvent(event);
    if (response !== undefined) return response;
  }
  return undefined;
}

function answerOrRun(request, env, ctx) {
  const event = eventOf(request);
  return event === null ? answerRequest(request, env, ctx) : run(event, env, ctx);
}

// A run of a schedule. The host hears that it went well when all of it has.
async function run(event, env, ctx) {
  await app.default.scheduled(event, env, ctx);
  return (await settle(ctx)) ? new Response(null, { status: 204 }) : new Response('what was given to ctx.waitUntil failed\n', { status: 500 });
}

export function handle(request, outparam) {
  beginCall();
  const call = { request: incoming(request), outparam, ctx: new Context() };
  let given;
  try {
    given = answer(call.request, (env ??= makeEnv()), call.ctx);
    if (given instanceof Promise) return given.then((response) => finish(call, response), (error) => finish(call, failure(error)));
  } catch (error) {
    given = failure(error);
  }
  return finish(call, given);
}

// Sends the response, and ends the call when nothing is left to do; else gives a promise of that.
function finish(call, response) {
  const rest = send(call, response);
  if (rest === undefined && call.ctx[INNER] === null && !isDevelopment()) return end(call);
  return linger(call, rest);
}

// Waits for all that was given to `waitUntil`, and tells what failed of it; whether all went well.
async function settle(ctx) {
  let isWell = true;
  while (ctx[INNER] !== null) {
    const tasks = ctx[INNER];
    ctx[INNER] = null;
    for (const { status, reason } of await Promise.allSettled(tasks)) {
      if (status === 'fulfilled') continue;
      isWell = false;
      tell(reason);
    }
  }
  return isWell;
}

async function linger(call, rest) {
  try {
    await rest;
  } catch (error) {
    tell(error);
  }
  await settle(call.ctx);
  end(call);
  if (isDevelopment()) {
    await microtasksOver();
    look();
  }
}

// Nothing of the request is left in the instance.
function end({ request }) {
  endCall();
  const handle = takeHandle(request[INNER]);
  if (handle !== 0) dropRequest(handle);
  return undefined;
}

function takeHandle(inner) {
  const { handle } = inner;
  inner.handle = 0;
  return handle;
}

function send(call, response) {
  try {
    return trySend(call, response);
  } catch (error) {
    return trySend(call, failure(error));
  }
}

const encoder = new TextEncoder();
const LENGTH = new Set(['content-length']);
const OF_CONTENT = new Set(['content-length', 'content-encoding']);

// The header fields for a body whose length is known. Those of another response, which applications hand on with a body that they
// have changed, say something of that one's: its length, and how it is compressed, which a text never is. The answer to
// HEAD speaks of a body that is not there.
function listFor({ request }, list, content, length) {
  if (length === undefined || !(has(list, 'content-length') || has(list, 'content-encoding'))) return list;
  if (length === 0 && request.method === 'HEAD') return list;
  return without(list, typeof content === 'string' ? OF_CONTENT : LENGTH);
}

// Gives a promise of what is left to send of the body. Throws while nothing was sent.
function trySend(call, response) {
  if (!(response instanceof Response)) {
    throw new TypeError(`the handler answers with ${Object.prototype.toString.call(response)}, which is no Response`);
  }
  const inner = response[INNER];
  let content = takeBody(inner) ?? '';
  let list = listOfResponse(inner);
  if (list !== plainTextList) list = listFor(call, list, content, content.length ?? inner.length);
  if (content.length <= WHOLE_MAX) {
    // Where nothing goes on behind the response, the request goes with it.
    const over = call.ctx[INNER] === null ? takeHandle(call.request[INNER]) : 0;
    if (respondWhole(call.outparam, over, inner.status, list, content)) return undefined;
  } else {
    if (typeof content === 'string') content = encoder.encode(content);
    const length = content.length ?? inner.length;
    if (length !== undefined) list = [...list, 'content-length', String(length)];
    const body = respond(call.outparam, inner.status, list);
    if (body !== null) return sendBody(body, content);
  }
  call.outparam = keptOutparam();
  throw new TypeError(`the host does not take a response of status ${inner.status} with these headers`);
}

// What is answered for an error, which is told of on standard error.
function failure(error) {
  tell(error);
  return new Response('Internal Server Error\n', { status: 500, headers: fieldsOf(error) });
}
