// What the guest of tests/bench/stores does with a store in a server, by ioredis with plain keys.
// node node-redis.mjs FOLDER PORT, where FOLDER/node_modules has ioredis and the server listens at PORT
import http from 'node:http';
import { createRequire } from 'node:module';

const [folder, port] = process.argv.slice(2);
const { Redis } = createRequire(`${folder}/`)('ioredis');
const redis = new Redis({ port: Number(port), host: '127.0.0.1' });

http.createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const key = searchParams.get('key') ?? 'key';
  try {
    if (pathname.endsWith('/sets')) {
      for (let n = 0; n < Number(searchParams.get('count')); n += 1) {
        await redis.set(`${key}${String(n).padStart(6, '0')}`, Buffer.alloc(Number(searchParams.get('bytes')), 'x'));
      }
      response.end('set');
    } else if (pathname.endsWith('/gets')) {
      let bytes = 0;
      for (let n = 0; n < Number(searchParams.get('count')); n += 1) bytes += (await redis.getBuffer(key)).length;
      response.end(String(bytes));
    } else {
      response.end(await redis.getBuffer(key));
    }
  } catch (error) {
    response.writeHead(502).end(String(error));
  }
}).listen(0, '127.0.0.1', function () {
  console.log(`listening on http://127.0.0.1:${this.address().port}`);
});
