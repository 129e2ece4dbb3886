// Puts what the runtime does itself in the place of the engine's own globals, before the application's modules run.

import './streams.js';
import './text-streams.js';
import './blob.js';
import './clone.js';
import './performance.js';
import './message-channel.js';
import './platform.js';
import './console.js';
import './uncaught.js';
import { AbortController, AbortSignal } from './abort.js';
import { listening } from './events.js';
import { fetch } from './fetch.js';
import { globals } from './loop.js';
import { lookAlways } from './rejections.js';
import { Request } from './request.js';
import { Response } from './response.js';
import { provide } from './shape.js';
import { URL } from './url.js';

// Listeners for the event `fetch`, for applications without a default export.
export const listeners = [];

const { addEventListener: listen, removeEventListener: unlisten } = listening(globalThis.addEventListener, globalThis.removeEventListener);

const provided = {
  ...globals,
  AbortController,
  AbortSignal,
  Request,
  Response,
  URL,
  fetch,
  addEventListener(type, listener, options = undefined) {
    if (type === 'unhandledrejection') lookAlways();
    if (type === 'fetch') listeners.push(listener);
    else listen.call(globalThis, type, listener, options);
  },
  removeEventListener(type, listener, options = undefined) {
    const index = type === 'fetch' ? listeners.indexOf(listener) : -1;
    if (index >= 0) listeners.splice(index, 1);
    else unlisten.call(globalThis, type, listener, options);
  },
};

for (const [name, value] of Object.entries(provided)) provide(name, value);
