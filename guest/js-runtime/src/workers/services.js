// Other applications of the host, as bindings of Workers: `env.NAME.fetch(request)`.

import { fetch } from '../fetch.js';
import { Request } from '../request.js';
import { INNER, shape } from '../shape.js';

// The host takes a name below it for an application, and asks no network.
const DOMAIN = 'wasmhost.internal';

export class Fetcher {
  constructor(app) {
    this[INNER] = app;
  }

  // Path and query are those that the caller has given.
  async fetch(input, init) {
    const app = this[INNER];
    const request = init === undefined && input instanceof Request ? input : new Request(input, init);
    const { pathname, search } = new URL(request.url);
    try {
      return await fetch(new Request(`http://${app}.${DOMAIN}${pathname}${search}`, request));
    } catch (error) {
      if (error?.code !== 'HTTP-request-denied') throw error;
      const text = `the service \`${app}\` is not granted; to grant it: \`services = ["${app}"]\` of the app in wasmhost.toml`;
      throw Object.assign(new TypeError(text, { cause: error }), { code: error.code });
    }
  }
}
shape(Fetcher, 'Fetcher');
