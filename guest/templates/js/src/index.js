export default {
  /** Answers every request. An instance serves many. */
  async fetch(request) {
    const { pathname } = new URL(request.url);
    const route = `${request.method} ${pathname}`;
    if (route === 'GET /') return new Response('Hello, World!');
    if (route.startsWith('GET /hello/')) {
      const name = decodeURIComponent(pathname.slice('/hello/'.length));
      return new Response(`Hello, ${name}!`);
    }
    // The body goes back as it comes.
    if (route === 'POST /echo') {
      const type = request.headers.get('content-type') ?? 'text/plain';
      return new Response(request.body, { headers: { 'content-type': type } });
    }
    return new Response('not found', { status: 404 });
  },
};
