// Node's cluster, as its documentation has it, a worker that died replaced: the server of tests/bench/compare,
// blast-radius, overload and edge.
// node node-cluster.mjs WORKERS [http|https|http2|http2s CERT KEY]
import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';

const [workers = 2, protocol = 'http', cert, key] = process.argv.slice(2);

if (cluster.isPrimary) {
  let listening = 0;
  cluster.on('listening', (_worker, { address, port }) => {
    listening += 1;
    if (listening === Number(workers)) console.log(`listening on http://${address}:${port}`);
  });
  cluster.on('exit', () => cluster.fork());
  for (let n = 0; n < Number(workers); n += 1) cluster.fork();
  process.on('SIGTERM', () => {
    cluster.removeAllListeners('exit');
    for (const worker of Object.values(cluster.workers)) worker.kill('SIGKILL');
    process.exit(0);
  });
} else {
  const text = { 'content-type': 'text/plain' };
  const tls = cert && { cert: readFileSync(cert), key: readFileSync(key) };
  const create = {
    http: (answer) => http.createServer(answer),
    https: (answer) => https.createServer(tls, answer),
    http2: (answer) => http2.createServer(answer),
    http2s: (answer) => http2.createSecureServer(tls, answer),
  }[protocol];
  const server = create((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    if (url.pathname === '/') {
      response.writeHead(200, text).end('Hello, World!');
    } else if (url.pathname === '/echo') {
      request.pipe(response);
    } else if (url.pathname === '/sleep') {
      setTimeout(() => response.writeHead(200, text).end('slept'), Number(url.searchParams.get('ms') ?? 0));
    } else if (url.pathname === '/burn') {
      let turns = Number(url.searchParams.get('turns') ?? 0);
      while (turns > 0) turns -= 1;
      response.writeHead(200, text).end('Hello, World!');
    } else if (url.pathname === '/trap') {
      throw new Error('as asked');
    } else if (url.pathname === '/exit') {
      process.exit(1);
    } else if (url.pathname === '/loop') {
      for (;;);
    } else if (url.pathname === '/alloc') {
      const kept = [];
      for (;;) kept.push(new Array(100_000).fill(kept.length));
    } else if (url.pathname === '/wait-forever') {
      // Never answered.
    } else {
      response.writeHead(404, text).end('not found');
    }
  });
  // As long as wasmhost keeps connections that are idle.
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
}
