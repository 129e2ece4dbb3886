// What the component exports: a call of `wasi:http/incoming-handler` becomes a call of the application's `fetch`, and its
// Response the answer. The call returns when all that was given to `ctx.waitUntil` has settled; the host then gives the
// instance to the next request, so nothing of this one may be left.

import './globals.js';
import * as app from 'wasmhost:app';

import { Body } from './body.js';
import { listeners } from './globals.js';
import { closeAll, sendBody } from './host-body.js';
import { beginCall, endCall, tell } from './loop.js';
import { Request } from './request.js';
import { Response } from './response.js';
import { dropRequest, environment, finish, respond } from './wasi.js';

const fetchOf = () => {
  const exported = app.default;
  if (typeof exported?.fetch === 'function') return (request, env, ctx) => exported.fetch(request, env, ctx);
  if (typeof exported === 'function' && exported.prototype === undefined) return exported;
  if (listeners.length > 0) return answerEvent;
  throw new Error(
    'the application has no handler: export one by default, as in `export default { async fetch(request, env, ctx) { … } }`, or add a listener for "fetch"',
  );
};
const answer = fetchOf();

// Read by an instance's first request: what the build's environment was is of no interest.
let env = null;

class Context {
  tasks = null;
  props = {};

  waitUntil(promise) {
    (this.tasks ??= []).push(promise);
  }

  // There is nothing behind the application that a request could be passed to.
  passThroughOnException() {}
}

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

export function handle(incoming, outparam) {
  beginCall();
  const request = Request.incoming(incoming);
  const ctx = new Context();
  let given;
  try {
    given = answer(request, (env ??= environment()), ctx);
  } catch (error) {
    given = failure(error);
  }
  if (given instanceof Response) {
    const rest = send(outparam, given);
    if (rest === undefined && ctx.tasks === null) return end(request, incoming);
    return finished(rest, request, incoming, ctx);
  }
  return answered(given, request, incoming, outparam, ctx);
}

async function answered(given, request, incoming, outparam, ctx) {
  let response;
  try {
    response = await given;
    if (!(response instanceof Response)) {
      throw new TypeError(`the handler answers with ${Object.prototype.toString.call(response)}, which is no Response`);
    }
  } catch (error) {
    response = failure(error);
  }
  const rest = send(outparam, response);
  if (rest === undefined && ctx.tasks === null) end(request, incoming);
  else await finished(rest, request, incoming, ctx);
}

function failure(error) {
  tell(error);
  return new Response('Internal Server Error\n', { status: 500 });
}

// Sends the response. A promise where something of it is left to send.
function send(outparam, response) {
  let body;
  let content;
  try {
    content = Body.take(response);
    body = respond(outparam, response.status, Response.list(response));
    if (body === null) throw new TypeError(`the host does not take a response with status ${response.status} and these headers`);
  } catch (error) {
    const instead = failure(error);
    content = Body.take(instead);
    body = respond(outparam, 500, Response.list(instead));
  }
  if (content !== null) return sendBody(body, content);
  finish(body);
  return undefined;
}

// Waits for what is left of the response, and for what the application goes on with.
async function finished(rest, request, incoming, ctx) {
  try {
    await rest;
  } catch (error) {
    tell(error);
  }
  while (ctx.tasks !== null) {
    const tasks = ctx.tasks;
    ctx.tasks = null;
    for (const { status, reason } of await Promise.allSettled(tasks)) {
      if (status === 'rejected') tell(reason);
    }
  }
  end(request, incoming);
}

// Nothing of the request is left in the instance.
function end(request, incoming) {
  endCall();
  closeAll();
  Request.end(request);
  dropRequest(incoming);
}
