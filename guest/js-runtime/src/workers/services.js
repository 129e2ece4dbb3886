// Other applications of the host, as bindings of Workers: `env.NAME.fetch(request)`.

import { fetch } from '../fetch.js';
import { Request } from '../request.js';
import { INNER, shape } from '../shape.js';

export class Fetcher {
  constructor(app) {
    this[INNER] = app;
  }

  // The host takes this authority for the application; path and query are those that the caller has given.
  fetch(input, init) {
    const request = init === undefined && input instanceof Request ? input : new Request(input, init);
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(`http://${this[INNER]}.internal${pathname}${search}`, request));
  }
}
shape(Fetcher, 'Fetcher');
