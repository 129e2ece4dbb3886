// The application, in the form that Workers and most frameworks (Hono, itty-router) take: a `fetch` from request to
// response.

// An instance starts from the memory that the build left: this is a snapshot, made once, and each instance has its copy.
let count = 0;

const text = (body, status = 200) => new Response(body, { status, headers: { 'content-type': 'text/plain' } });

export default {
  async fetch(request) {
    const { pathname, search } = new URL(request.url);
    switch (`${request.method} ${pathname}`) {
      case 'GET /':
        return text('Hello, World!');
      case 'POST /echo': {
        // The body is handed on as a stream: a chunk is sent as soon as it has come.
        const type = request.headers.get('content-type') ?? 'application/octet-stream';
        return new Response(request.body, { headers: { 'content-type': type } });
      }
      case 'GET /headers': {
        const agent = request.headers.get('user-agent') ?? '-';
        return text(`method: ${request.method}\npath: ${pathname}${search}\nuser-agent: ${agent}\n`);
      }
      case 'GET /count':
        count += 1;
        return text(`${count}`);
      default:
        return text('not found', 404);
    }
  },
};
