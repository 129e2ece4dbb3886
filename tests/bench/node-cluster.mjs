// Node's cluster, as its documentation has it, a worker that died replaced: the server of tests/bench/compare,
// blast-radius and overload.
// node node-cluster.mjs WORKERS
import cluster from 'node:cluster';
import http from 'node:http';

if (cluster.isPrimary) {
  const workers = Number(process.argv[2] ?? 2);
  let listening = 0;
  cluster.on('listening', (_worker, { address, port }) => {
    listening += 1;
    if (listening === workers) console.log(`listening on http://${address}:${port}`);
  });
  cluster.on('exit', () => cluster.fork());
  for (let n = 0; n < workers; n += 1) cluster.fork();
  process.on('SIGTERM', () => {
    cluster.removeAllListeners('exit');
    for (const worker of Object.values(cluster.workers)) worker.kill('SIGKILL');
    process.exit(0);
  });
} else {
  const text = { 'content-type': 'text/plain' };
  http.createServer((request, response) => {
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
  }).listen(0, '127.0.0.1');
}
