// What guests of tests/bench/outgoing do, by Node's own fetch.
// node node-fetch.mjs
import http from 'node:http';

http.createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const url = searchParams.get('url');
  try {
    if (pathname === '/fetch-each') {
      const count = Number(searchParams.get('count'));
      let done = 0;
      for (let n = 0; n < count; n += 1) done += (await fetch(url)).status === 204;
      response.end(`204: ${done}\n`);
    } else {
      response.end(await (await fetch(url)).text());
    }
  } catch (error) {
    response.writeHead(502).end(`${error} ${error.cause ?? ''}`);
  }
}).listen(0, '127.0.0.1', function () {
  console.log(`listening on http://127.0.0.1:${this.address().port}`);
});
