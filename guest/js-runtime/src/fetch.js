// fetch: outgoing requests, with redirects and abort signals.

import { offAbort, onAbort } from './abort.js';
import { takeBody } from './body.js';
import { dataOf } from './data-url.js';
import { has, without } from './fields.js';
import { HostBody, sendBody } from './host-body.js';
import { giveUp, ready, tell } from './loop.js';
import { listOfRequest, Request } from './request.js';
import { serializeMime } from './mime.js';
import { received as response } from './response.js';
import { INNER } from './shape.js';
import {
  consumeResponse,
  dropFutureResponse,
  dropIncomingResponse,
  dropOutgoingBody,
  headersOfResponse,
  outgoing,
  received,
  send,
  statusOf,
  subscribeResponse,
} from './wasi.js';

// Fetch, "HTTP-redirect fetch".
const REDIRECTS_MAX = 20;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const BODILESS = new Set([204, 205, 304]);
// Fields that go when a redirect makes a GET of a POST.
const OF_BODY = new Set(['content-encoding', 'content-language', 'content-location', 'content-type', 'content-length']);
// Fields that go when a redirect leads to another origin.
const OF_ORIGIN = new Set(['authorization', 'cookie', 'proxy-authorization']);

const LENGTH = new Set(['content-length']);

const encoder = new TextEncoder();
// Methods whose requests have a length even without a body (Fetch, "HTTP-network-or-cache fetch").
const LENGTH_EXPECTED = new Set(['POST', 'PUT', 'PATCH']);

// The header fields with the body's own content-length where it is known, whatever is given: applications hand on the fields of
// another request. Many servers answer 411 to a body in chunks.
function withLength(list, method, body, streamLength) {
  let length = streamLength;
  if (body instanceof Uint8Array) ({ length } = body);
  else if (body === null) length = LENGTH_EXPECTED.has(method) ? 0 : undefined;
  else if (length === undefined) return list;
  const others = has(list, 'content-length') ? without(list, LENGTH) : list;
  return length === undefined ? others : [...others, 'content-length', String(length)];
}

// A data: URL may be of any length.
const SHOWN_MAX = 500;

const failed = (url, code) => {
  const { href } = url;
  const shown = href.length > SHOWN_MAX ? `${href.slice(0, SHOWN_MAX)}…` : href;
  const error = new TypeError(`fetch of ${shown} failed: ${code}`);
  error.code = code;
  return error;
};

export async function fetch(input, init) {
  const request = init === undefined && input instanceof Request ? input : new Request(input, init);
  const inner = request[INNER];
  // Null, unless one was given or somebody looked for one.
  const { signal = null } = inner;
  const { redirect } = request;
  signal?.throwIfAborted();
  let url = new URL(request.url);
  let { method } = request;
  let list = listOfRequest(inner);
  let body = takeBody(inner);
  // What is sent again and again is encoded once; its length is known then.
  if (typeof body === 'string') body = encoder.encode(body);
  // A body that is there can be sent again to where a redirect leads.
  const repeatable = body === null || body instanceof Uint8Array;
  for (let redirects = 0; ; redirects++) {
    if (url.protocol === 'data:' && redirects === 0) return fetchData(url, method);
    if (url.protocol === 'blob:' && redirects === 0) return fetchBlob(url, method, inner.blob ?? null);
    if (url.protocol !== 'http:' && url.protocol !== 'https:') throw failed(url, `scheme ${url.protocol} is not supported`);
    const answer = await exchange(url, method, withLength(list, method, body, inner.length), body, signal);
    const location = answer.list.findIndex((name, index) => index % 2 === 0 && name === 'location');
    if (redirect === 'manual' || !REDIRECTS.has(answer.status) || location < 0) {
      return response({ ...answer, url: url.href, redirected: redirects > 0 });
    }
    answer.body?.close();
    if (redirect === 'error') throw failed(url, 'it redirects');
    if (redirects === REDIRECTS_MAX) throw failed(url, 'too many redirects');
    const next = new URL(answer.list[location + 1], url);
    next.hash ||= url.hash;
    if (((answer.status === 301 || answer.status === 302) && method === 'POST') ||
        (answer.status === 303 && method !== 'GET' && method !== 'HEAD')) {
      method = 'GET';
      body = null;
      list = without(list, OF_BODY);
    } else if (!repeatable) {
      throw failed(url, 'it redirects, and the body, a stream, cannot be sent again');
    }
    if (next.origin !== url.origin) list = without(list, OF_ORIGIN);
    url = next;
  }
}

const there = (url, list, body) => response({ status: 200, statusText: 'OK', list, body, url: url.href, redirected: false });

function fetchData(url, method) {
  const data = dataOf(url);
  if (data === null) throw failed(url, 'it is not valid');
  return there(url, ['content-type', serializeMime(data.type)], method === 'HEAD' ? null : data.bytes);
}

// Of the Blob that the URL stood for when the request was made.
async function fetchBlob(url, method, blob) {
  if (method !== 'GET') throw failed(url, `it cannot be asked with ${method}`);
  if (blob === null) throw failed(url, 'it stands for nothing');
  const list = ['content-length', String(blob.size), 'content-type', blob.type];
  return there(url, list, await blob.bytes());
}

// One request and its response.
async function exchange(url, method, list, body, signal) {
  const sending = outgoing(method, url, list, body !== null);
  if (sending === null) throw failed(url, 'the host does not take these headers');
  const future = send(sending.request);
  if (typeof future === 'string') {
    if (sending.body !== null) dropOutgoingBody(sending.body);
    throw failed(url, future);
  }
  // Beside the response, which may come before the body has gone.
  if (sending.body !== null) sendBody(sending.body, body)?.catch(tell);
  const answer = await answered(future, signal);
  if (answer.error !== undefined) throw failed(url, answer.error);
  const status = statusOf(answer.response);
  const fields = headersOfResponse(answer.response);
  if (method === 'HEAD' || BODILESS.has(status)) {
    dropIncomingResponse(answer.response);
    return { status, list: fields, body: null };
  }
  const content = HostBody.of(consumeResponse(answer.response));
  dropIncomingResponse(answer.response);
  if (signal !== null) content.abortWith(signal);
  return { status, list: fields, body: content };
}

// Waits for the response, unless the signal comes first.
async function answered(future, signal) {
  let pollable = 0;
  const abort = () => giveUp(pollable, signal.reason);
  if (signal !== null) onAbort(signal, abort);
  try {
    signal?.throwIfAborted();
    for (;;) {
      const answer = received(future);
      if (answer !== null) return answer;
      pollable = subscribeResponse(future);
      await ready(pollable);
    }
  } finally {
    if (signal !== null) offAbort(signal, abort);
    dropFutureResponse(future);
  }
}
