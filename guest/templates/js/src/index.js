export default /** @satisfies {ExportedHandler<Env>} */ ({
  /** Answers every request. An instance serves many. */
  async fetch(request) {
    const { pathname } = new URL(request.url);
    // A HEAD request gets the response headers of GET; the host leaves out the body.
    const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${pathname}`;
    if (route === 'GET /') return new Response('Hello, World!');
    if (route.startsWith('GET /hello/')) {
      const name = decoded(pathname.slice('/hello/'.length));
      return name === null ? new Response('bad request', { status: 400 }) : new Response(`Hello, ${name}!`);
    }
    // The body goes back as it comes.
    if (route === 'POST /echo') {
      const type = request.headers.get('content-type') ?? 'text/plain';
      return new Response(request.body, { headers: { 'content-type': type } });
    }
    return new Response('not found', { status: 404 });
  },
});

/**
 * A part of a path without its percent encoding; null where the client has sent none that is right.
 * @param {string} text
 */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
