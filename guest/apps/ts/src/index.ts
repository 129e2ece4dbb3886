let count: number = 0;

const text = (body: string, status: number = 200): Response => new Response(body, { status, headers: { 'content-type': 'text/plain; charset=utf-8' } });

// A header's text has a character for each of its bytes.
const bytes = (latin1: string): Uint8Array => Uint8Array.from(latin1, (character: string) => character.charCodeAt(0));

async function fetched(url: string | null): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url!);
  } catch (error) {
    return text(String(error), 502);
  }
  return text(`${response.status}\n${await response.text()}`);
}

// Passes the request on, and the response with its body as it comes.
async function proxied(request: Request, url: string | null): Promise<Response> {
  const body = request.method === 'POST' ? await request.arrayBuffer() : undefined;
  const response = await fetch(url!, { method: request.method, body });
  return new Response(response.body, { status: response.status });
}

// A part of a path without its percent encoding; null where the client has sent none that is right.
function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    // A HEAD request gets the response headers of GET; the host leaves out the body.
    const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${pathname}`;
    if (route.startsWith('GET /hello/')) {
      const name = decoded(pathname.slice('/hello/'.length));
      if (name === null) return text('bad request', 400);
      return text(`${searchParams.get('greeting') ?? 'Hello'}, ${name}!`);
    }
    switch (route) {
      case 'GET /':
        return text('Hello, World!');
      case 'POST /echo':
        return new Response(request.body, { headers: { 'content-type': request.headers.get('content-type') ?? 'text/plain' } });
      case 'GET /headers': {
        const headers = new Headers({ 'x-bytes': 'caf\xe9' });
        headers.append('set-cookie', 'a=1');
        headers.append('set-cookie', 'b=2');
        // The standard joins fields of one name.
        const values = (request.headers.get('x-test') ?? '').split(', ').map((value) => `${value}\n`);
        return new Response(bytes(values.join('')), { headers });
      }
      case 'GET /query':
        return text([...searchParams].map(([name, value]) => `${name}=${value}\n`).join(''));
      case 'GET /count':
        return text(String(++count));
      case 'GET /fetch':
        return fetched(searchParams.get('url'));
      case 'GET /proxy':
      case 'POST /proxy':
        return proxied(request, searchParams.get('url'));
      case 'GET /error':
        throw new Error('as asked');
      case 'GET /memory':
        for (const taken: Uint8Array[] = []; ; ) taken.push(new Uint8Array(1 << 20).fill(1));
      case 'GET /log':
        console.log('to stdout');
        console.error('to stderr');
        return text('logged');
      default:
        return text('not found', 404);
    }
  },
};
