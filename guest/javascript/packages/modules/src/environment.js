import diagnostics from 'node:diagnostics_channel';
import { performance as measured } from 'node:perf_hooks';
import imported, { env, nextTick } from 'node:process';
import punycode from 'node:punycode';
import { isMap } from 'node:util/types';

// Kept from the top level, where nothing was granted yet.
const early = process.env;

export async function environment() {
  const order = [];
  nextTick((value) => order.push(value), 'tick');
  await new Promise((resolve) => setImmediate(resolve));
  process.env.NUMBER = 7;
  const { WORD, NUMBER } = early;
  delete process.env.NUMBER;
  const streams = [typeof process.stdout.write, typeof process.stderr.write];
  return {
    words: [process.env.WORD, env.WORD, WORD, NUMBER, 'NUMBER' in process.env, process.env.MISSING ?? null, Object.keys(env).includes('WORD')],
    same: [imported === process, globalThis.process === process, global === globalThis],
    order,
    streams,
    times: [process.hrtime().length, typeof process.hrtime.bigint(), typeof process.uptime()],
    chained: process.on('exit', () => {}) === process,
  };
}

export function others() {
  const channel = diagnostics.channel('packages');
  const heard = [];
  const listen = (message) => heard.push(message);
  channel.subscribe(listen);
  channel.publish({ a: 1 });
  channel.unsubscribe(listen);
  return { heard, punycode: punycode.toASCII('mañana.example'), measured: measured === performance, map: isMap(new Map()) };
}
