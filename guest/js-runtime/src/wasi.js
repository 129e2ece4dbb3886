// The host's functions: imports of wasi 0.2, lowered by hand as the component model's canonical ABI says. Resources are
// numbers here, and whoever holds one drops it; nothing is left to finalizers. (The bindings that componentize-js
// generates make an object and a finalization record of each resource in a realm of their own, which costs several times
// as much, and keep what was not disposed of for good.)
//
// An import with more results than one number puts them into memory and returns where. That place, and the strings and
// lists that the host has allocated for them, are ours to free, or the memory grows with each request. What `realloc` gives
// us for arguments is freed when the component's call ends; what may be many in a call is freed at once.

import { dealloc, imports, memory, realloc } from 'wasmhost:raw';

import { ByteArray, reader, setBytes } from './own.js';

const named = (name) => {
  const found = imports[name];
  if (found === undefined) throw new Error(`the component's world lacks ${name}`);
  return found;
};
const exchange = (name) => named(`wasmhost:http/exchange ${name}`);
const http = (name) => named(`wasi:http/types ${name}`);
const io = (name) => named(`wasi:io/streams ${name}`);

const requestHead = exchange('head');
const respondTo = exchange('respond');
const keptBody = exchange('body');
// What was to be answered with and was not: `respond` says so.
export const keptOutparam = exchange('outparam');
const newSpace = exchange('space');
const requestConsume = http('[method]incoming-request.consume');
export const dropRequest = http('[resource-drop]incoming-request');
const fieldsEntries = http('[method]fields.entries');
const fieldsFromList = http('[static]fields.from-list');
const dropFields = http('[resource-drop]fields');
const bodyStream = http('[method]incoming-body.stream');
export const dropIncomingBody = http('[resource-drop]incoming-body');
const bodyWrite = http('[method]outgoing-body.write');
const bodyFinish = http('[static]outgoing-body.finish');
export const dropOutgoingBody = http('[resource-drop]outgoing-body');
const newRequest = http('[constructor]outgoing-request');
const setMethod = http('[method]outgoing-request.set-method');
const setPath = http('[method]outgoing-request.set-path-with-query');
const setScheme = http('[method]outgoing-request.set-scheme');
const setAuthority = http('[method]outgoing-request.set-authority');
const outgoingRequestBody = http('[method]outgoing-request.body');
const dropOutgoingRequest = http('[resource-drop]outgoing-request');
const sendOutgoing = named('wasi:http/outgoing-handler handle');
export const subscribeResponse = http('[method]future-incoming-response.subscribe');
const futureGet = http('[method]future-incoming-response.get');
export const dropFutureResponse = http('[resource-drop]future-incoming-response');
export const statusOf = http('[method]incoming-response.status');
const responseHeaders = http('[method]incoming-response.headers');
const responseConsume = http('[method]incoming-response.consume');
export const dropIncomingResponse = http('[resource-drop]incoming-response');
const streamRead = io('[method]input-stream.read');
export const subscribeInput = io('[method]input-stream.subscribe');
export const dropInput = io('[resource-drop]input-stream');
const streamCheckWrite = io('[method]output-stream.check-write');
const streamWrite = io('[method]output-stream.write');
export const subscribeOutput = io('[method]output-stream.subscribe');
export const dropOutput = io('[resource-drop]output-stream');
const dropStreamError = named('wasi:io/error [resource-drop]error');
const pollAll = named('wasi:io/poll poll');
export const dropPollable = named('wasi:io/poll [resource-drop]pollable');
const monotonicNow = named('wasi:clocks/monotonic-clock now');
const monotonicSubscribe = named('wasi:clocks/monotonic-clock subscribe-duration');
const environmentGet = named('wasi:cli/environment get-environment');

// An application can replace methods and accessors. Those that get hold of memory, which keys are in, are the engine's, and what they
// get is made by a constructor of the engine, not by a method.
const encoder = new TextEncoder();
// A mark at the beginning belongs to the text here.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
// Calls of methods of their own cost less than calls of functions that were made of them.
Object.defineProperty(encoder, 'encodeInto', { value: TextEncoder.prototype.encodeInto });
Object.defineProperty(decoder, 'decode', { value: TextDecoder.prototype.decode });
const lengthOf = reader(ArrayBuffer.prototype, 'byteLength');
const WordArray = globalThis.Uint32Array;

// What a stream tells instead of bytes.
export const CLOSED = -1;
export const FAILED = -2;

let buffer;
let bytes;
let words;
// How many bytes there are.
let size = 0;

// The buffer is another one when the memory has grown, which any import or allocation may have caused. What lies within the old
// one is read through it as well.
function refresh() {
  const current = memory.buffer;
  if (current !== buffer) {
    buffer = current;
    size = lengthOf(current);
    bytes = new ByteArray(current);
    words = new WordArray(current, 0, size >>> 2);
  }
}

// Makes the bytes up to `end` readable. Asking for the buffer costs as much as any call out of the engine.
function reach(end) {
  if (end > size) refresh();
}

const part = (from, length) => new ByteArray(buffer, from, length);
const textAt = (at, length) => decoder.decode(part(at, length));

// A string that the host has allocated; freed.
function takeText(word) {
  const length = words[word + 1];
  if (length === 0) return '';
  const at = words[word];
  const taken = textAt(at, length);
  dealloc(at);
  return taken;
}

// Bytes of a header's value as a string of one character a byte, which is what `Headers` take (Fetch, "isomorphic
// decode"); freed.
const NOT_ASCII = /[^\0-\x7f]/;
function takeIsomorphic(word) {
  const length = words[word + 1];
  if (length === 0) return '';
  const at = words[word];
  let taken = textAt(at, length);
  if (NOT_ASCII.test(taken)) {
    taken = '';
    for (let index = at; index < at + length; index++) taken += String.fromCharCode(bytes[index]);
  }
  dealloc(at);
  return taken;
}

// Writes a string as UTF-8 and says where; its length is in `written`.
let written = 0;
function place(string) {
  const most = string.length * 3;
  if (most === 0) {
    written = 0;
    return 1;
  }
  const at = realloc(0, 0, 1, most);
  refresh();
  ({ written } = encoder.encodeInto(string, part(at, most)));
  return at;
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'];
const OTHER_METHOD = METHODS.length;

// A request's method, its URL, and the names and values of its header fields in turn, repeated ones one by one, with line feeds
// between them.
export function headOf(request) {
  const result = requestHead(request);
  reach(result + 8);
  const at = words[result >> 2];
  const length = words[(result >> 2) + 1];
  dealloc(result);
  reach(at + length);
  const head = textAt(at, length);
  dealloc(at);
  return head;
}

function entries(fields) {
  const result = fieldsEntries(fields);
  dropFields(fields);
  refresh();
  const list = words[result >> 2];
  const end = (list >> 2) + words[(result + 4) >> 2] * 4;
  dealloc(result);
  const read = [];
  for (let word = list >> 2; word < end; word += 4) read.push(takeText(word), takeIsomorphic(word + 2));
  if (read.length > 0) dealloc(list);
  return read;
}

// The header fields of a response: names, which the host has in lower case, and values in turn, repeated ones one by one.
export const headersOfResponse = (response) => entries(responseHeaders(response));

const okHandle = (result, what) => {
  refresh();
  const isOk = bytes[result] === 0;
  const handle = words[(result + 4) >> 2];
  dealloc(result);
  if (!isOk) throw new TypeError(what);
  return handle;
};

// The body's handle; it may be taken once, and outlives the request or response.
export function consumeRequest(request) {
  return okHandle(requestConsume(request), 'the body was taken before');
}

export function consumeResponse(response) {
  return okHandle(responseConsume(response), 'the body was taken before');
}

export function inputOf(body) {
  return okHandle(bodyStream(body), 'the body has a reader');
}

// What a stream's error is: the end, or a failure, whose resource is dropped. Frees the result that it is in.
function streamError(result, at) {
  const isEnd = bytes[at] === 1;
  const error = words[(at + 4) >> 2];
  dealloc(result);
  if (isEnd) return CLOSED;
  dropStreamError(error);
  return FAILED;
}

// Bytes that are there, as an array of their own; null if none are there yet; CLOSED; FAILED. `most` is a bigint.
export function read(stream, most) {
  const result = streamRead(stream, most);
  refresh();
  if (bytes[result] !== 0) return streamError(result, result + 4);
  const at = words[(result + 4) >> 2];
  const length = words[(result + 8) >> 2];
  dealloc(result);
  if (length === 0) return null;
  const chunk = new ByteArray(part(at, length));
  dealloc(at);
  return chunk;
}

// How many bytes may be written now; CLOSED; FAILED.
export function room(stream) {
  const result = streamCheckWrite(stream);
  refresh();
  if (bytes[result] !== 0) return streamError(result, result + 8);
  const allowed = words[(result + 8) >> 2];
  dealloc(result);
  return allowed;
}

const outcome = (result) => {
  refresh();
  if (bytes[result] !== 0) return streamError(result, result + 4);
  dealloc(result);
  return 0;
};

// Writes what `room` allows; 0; CLOSED; FAILED.
export function write(stream, chunk, from, to) {
  const length = to - from;
  const at = realloc(0, 0, 1, length);
  refresh();
  setBytes(bytes, from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to), at);
  const wrote = outcome(streamWrite(stream, at, length));
  dealloc(at);
  return wrote;
}

// Fields that speak of a connection, not of a message (RFC 9110, section 7.6.1), and what stands in a request's URL: the
// host sets them itself, and allows nobody else to. They are left out, as browsers and Workers do.
const OF_HOST = new Set([
  'connection', 'host', 'http2-settings', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection',
  'transfer-encoding', 'upgrade',
]);

// Header fields of a list of names and values in turn; null if one is not allowed.
function fields(list) {
  const head = list.join('');
  const tableBytes = list.length * 8;
  const table = realloc(0, 0, 4, tableBytes + head.length + 1);
  refresh();
  let at = table + tableBytes;
  const isAscii = encoder.encodeInto(head, part(at, head.length)).read === head.length;
  // Four words a field: where its name is, how long, and the same for its value.
  let word = table >> 2;
  for (let index = 0; index < list.length; index++, word += 2) {
    const string = list[index];
    if (!isAscii) {
      // One byte a character (Fetch, "isomorphic encode").
      for (let unit = 0; unit < string.length; unit++) bytes[at + unit] = string.charCodeAt(unit);
    }
    words[word] = at;
    words[word + 1] = string.length;
    at += string.length;
  }
  const result = fieldsFromList(table, list.length >> 1);
  refresh();
  const made = bytes[result] === 0 ? words[(result + 4) >> 2] : null;
  dealloc(result);
  if (made !== null) return made;
  const allowed = list.filter((_, index) => !OF_HOST.has(list[index & ~1]));
  return allowed.length < list.length ? fields(allowed) : null;
}

// Memory for what is passed of a response, of which as many calls as there are requests would have to be asked otherwise. It
// stays for good.
const SPACE_BYTES = 16384;
let space;
let spaceAt = 0;

function makeSpace() {
  const result = newSpace(SPACE_BYTES);
  refresh();
  spaceAt = words[result >> 2];
  dealloc(result);
  space = part(spaceAt, SPACE_BYTES);
}

// The head of a text as most responses have it: made once.
const PLAIN_TEXT = 'text/plain;charset=UTF-8';
export const plainTextList = ['content-type', PLAIN_TEXT];
const PLAIN_TEXT_HEAD = `content-type\n${PLAIN_TEXT}\n\n`;

const headText = (list) => (list === plainTextList ? PLAIN_TEXT_HEAD : list.length === 0 ? '\n' : `${list.join('\n')}\n\n`);

// A content of so many units or bytes goes with its head: three times as many bytes are always taken.
export const WHOLE_MAX = 4096;

// Answers with status, header fields and the whole content, a short string or bytes; false if the host takes no such head. That
// nobody is left to receive the content is no error. The request is dropped in any case if a handle is given, or 0.
export function respondWhole(outparam, over, status, list, content) {
  return respondWith(outparam, over, status, headText(list), content, 1);
}

// Answers with status and header fields; gives the body's handle, or null if the host takes no such head.
export function respond(outparam, status, list) {
  return respondWith(outparam, 0, status, headText(list), '', 0) ? keptBody() : null;
}

function respondWith(outparam, over, status, head, content, whole) {
  if (spaceAt === 0) makeSpace();
  const isText = typeof content === 'string';
  const text = isText ? head + content : head;
  let at = spaceAt;
  let target = space;
  let { read: taken, written: length } = encoder.encodeInto(text, target);
  if (taken < text.length || (!isText && length + content.length > SPACE_BYTES)) {
    const most = text.length * 3 + content.length;
    at = realloc(0, 0, 1, most);
    refresh();
    target = part(at, most);
    length = encoder.encodeInto(text, target).written;
  }
  if (!isText) {
    setBytes(target, content, length);
    length += content.length;
  }
  return respondTo(outparam, over === 0 ? 0 : 1, over, status, at, length, whole) !== 0;
}

export function outputOf(body) {
  return okHandle(bodyWrite(body), 'the body has a writer');
}

// Ends a body well; dropped without, it is broken off. The host breaks it off too if it is not as long as was announced.
export function finish(body) {
  dealloc(bodyFinish(body, 0, 0));
}

// A request to be sent: { request, body }, the body null unless it is wanted; or null where the host takes no such headers.
export function outgoing(method, url, list, hasBody) {
  const head = fields(list);
  if (head === null) return null;
  const request = newRequest(head);
  const which = METHODS.indexOf(method);
  const path = url.pathname + url.search;
  const fits =
    (which >= 0 ? setMethod(request, which, 0, 0) : setMethod(request, OTHER_METHOD, place(method), written)) === 0 &&
    setScheme(request, 1, url.protocol === 'https:' ? 1 : 0, 0, 0) === 0 &&
    setAuthority(request, 1, place(url.host), written) === 0 &&
    setPath(request, 1, place(path), written) === 0;
  if (!fits) {
    dropOutgoingRequest(request);
    return null;
  }
  return { request, body: hasBody ? okHandle(outgoingRequestBody(request), 'the body was taken before') : null };
}

const ERRORS = [
  'DNS-timeout', 'DNS-error', 'destination-not-found', 'destination-unavailable', 'destination-IP-prohibited',
  'destination-IP-unroutable', 'connection-refused', 'connection-terminated', 'connection-timeout',
  'connection-read-timeout', 'connection-write-timeout', 'connection-limit-reached', 'TLS-protocol-error',
  'TLS-certificate-error', 'TLS-alert-received', 'HTTP-request-denied', 'HTTP-request-length-required',
  'HTTP-request-body-size', 'HTTP-request-method-invalid', 'HTTP-request-URI-invalid', 'HTTP-request-URI-too-long',
  'HTTP-request-header-section-size', 'HTTP-request-header-size', 'HTTP-request-trailer-section-size',
  'HTTP-request-trailer-size', 'HTTP-response-incomplete', 'HTTP-response-header-section-size',
  'HTTP-response-header-size', 'HTTP-response-body-size', 'HTTP-response-trailer-section-size',
  'HTTP-response-trailer-size', 'HTTP-response-transfer-coding', 'HTTP-response-content-coding',
  'HTTP-response-timeout', 'HTTP-upgrade-failed', 'HTTP-protocol-error', 'loop-detected', 'configuration-error',
  'internal-error',
];

// An error code by its name, with what the host says of it.
function errorAt(at) {
  const code = bytes[at];
  const name = ERRORS[code];
  const says = (name === 'DNS-error' || name === 'internal-error') && bytes[at + 8] === 1;
  return says ? `${name} (${takeText((at + 12) >> 2)})` : name;
}

// Sends a request, which it takes: the future's handle, or the error's name.
export function send(request) {
  const result = sendOutgoing(request, 0, 0);
  refresh();
  const sent = bytes[result] === 0 ? words[(result + 8) >> 2] : errorAt(result + 8);
  dealloc(result);
  return sent;
}

// What became of a request: { response } or { error }; null if it is still under way.
export function received(future) {
  const result = futureGet(future);
  refresh();
  let found = null;
  if (bytes[result] !== 0) {
    if (bytes[result + 8] !== 0) found = { error: 'taken before' };
    else if (bytes[result + 16] === 0) found = { response: words[(result + 24) >> 2] };
    else found = { error: errorAt(result + 24) };
  }
  dealloc(result);
  return found;
}

// Waits until one of the pollables is ready; the positions of those that are.
export function poll(pollables) {
  const count = pollables.length;
  const list = realloc(0, 0, 4, count * 4);
  refresh();
  for (let index = 0; index < count; index++) words[(list >> 2) + index] = pollables[index];
  const result = pollAll(list, count);
  refresh();
  dealloc(list);
  const at = words[result >> 2];
  const ready = [];
  const end = (at >> 2) + words[(result + 4) >> 2];
  for (let word = at >> 2; word < end; word++) ready.push(words[word]);
  dealloc(at);
  dealloc(result);
  return ready;
}

// Milliseconds of the monotonic clock.
export const now = () => Number(monotonicNow()) / 1e6;

// A pollable that is ready after so many milliseconds.
export const timer = (ms) => monotonicSubscribe(BigInt(Math.max(0, Math.ceil(ms * 1e6))));

export function environment() {
  const result = environmentGet();
  refresh();
  const list = words[result >> 2];
  const end = (list >> 2) + words[(result + 4) >> 2] * 4;
  dealloc(result);
  const variables = {};
  for (let word = list >> 2; word < end; word += 4) {
    const name = takeText(word);
    variables[name] = takeText(word + 2);
  }
  if (end > list >> 2) dealloc(list);
  return variables;
}
