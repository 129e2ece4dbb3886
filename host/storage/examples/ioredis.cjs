// Plain keys by ioredis, for redis_speed.rs: node ioredis.cjs PORT CLIENTS fill|get|set|get-gathered|set-gathered KEYS MILLISECONDS.
// Prints operations a second.
const { Redis } = require('ioredis');

const [port, clients, what, keys, milliseconds] = process.argv.slice(2);
const redis = new Redis({ port: Number(port), host: '127.0.0.1', enableAutoPipelining: what.endsWith('-gathered') });
const key = (number) => `user:${number.toString(16).padStart(16, '0')}`;
const value = Buffer.alloc(100, 'v');
let answers = 0;

async function ask(end) {
  while (performance.now() < end) {
    const asked = key(Math.floor(Math.random() * Number(keys)));
    if (what.startsWith('set')) await redis.set(asked, value);
    else await redis.getBuffer(asked);
    answers += 1;
  }
}

(async () => {
  if (what === 'fill') {
    for (let number = 0; number < Number(keys); number += 1000) {
      await redis.mset(Array.from({ length: 1000 }, (_, more) => [key(number + more), value]).flat());
    }
    console.log(1);
  } else {
    // The first answers are those of a program that is not compiled yet.
    await redis.ping();
    const warm = performance.now() + 300;
    await Promise.all(Array.from({ length: Number(clients) }, () => ask(warm)));
    answers = 0;
    const begun = performance.now();
    await Promise.all(Array.from({ length: Number(clients) }, () => ask(begun + Number(milliseconds))));
    console.log((answers * 1000) / (performance.now() - begun));
  }
  redis.disconnect();
})();
