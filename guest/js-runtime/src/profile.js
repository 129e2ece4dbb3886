// How long the application's functions run, by name, in each request: for `wasmhost build --profile`, which puts the calls of
// this into them (`instrument.mjs`). A function that waits for a promise does not run meanwhile.

import { isActive, whenOver } from './loop.js';
import { now } from './wasi.js';

// In a scope of its own: a name of the application's modules would get a number behind it if it was also one of these.
function profiler() {
  // `build.mjs` writes names and places in the place of this text.
  const functions = JSON.parse('wasmhost:functions');
  // So many functions are told of.
  const ROWS_MAX = 25;

  // What is known of each function that the request has called: { calls, self, total, running, began }.
  let known = new Map();
  // The calls that run, innermost last, and until when their time is counted.
  const stack = [];
  let counted = 0;

  function count(time) {
    const top = stack[stack.length - 1];
    if (top !== undefined) top.self += time - counted;
    counted = time;
  }

  function run(call) {
    const time = now();
    count(time);
    stack.push(call.function);
    if (call.function.running++ === 0) call.function.began = time;
    call.depth = stack.length;
  }

  function rest(call) {
    if (call.depth === 0) return;
    const time = now();
    count(time);
    // What lies above has been left without a word.
    while (stack.length >= call.depth) {
      const one = stack.pop();
      if (--one.running === 0) one.total += time - one.began;
    }
    call.depth = 0;
  }

  function enter(number) {
    // At the top level there is no clock.
    if (!isActive()) return null;
    if (known.size === 0) whenOver(report);
    let one = known.get(number);
    if (one === undefined) known.set(number, (one = { calls: 0, self: 0, total: 0, running: 0, began: 0 }));
    one.calls += 1;
    const call = { function: one, depth: 0 };
    run(call);
    return call;
  }

  const leave = (call) => call !== null && rest(call);

  // In the place of what is waited for: what came of it.
  function wait(call, value) {
    if (call !== null) rest(call);
    return Promise.resolve(value).then((result) => ({ result }), (error) => ({ error, failed: true }));
  }

  function resume(call, { result, error, failed }) {
    if (call !== null && isActive()) run(call);
    if (failed) throw error;
    return result;
  }

  function report() {
    const rows = [...known].sort(([, one], [, other]) => other.self - one.self);
    known = new Map();
    stack.length = 0;
    const sum = rows.reduce((all, [, { self }]) => all + self, 0);
    const column = (value) => String(value).padStart(10);
    const lines = rows.slice(0, ROWS_MAX).map(([number, { calls, self, total }]) => {
      const [name, place] = functions[number];
      return `${column(self.toFixed(2))}${column(total.toFixed(2))}${column(calls)}  ${name} (${place})`;
    });
    const rest = rows.length > ROWS_MAX ? [`and ${rows.length - ROWS_MAX} more functions`] : [];
    const head = `CPU profile: ${sum.toFixed(2)} ms in ${rows.length} functions`;
    const titles = `${column('self ms')}${column('total ms')}${column('calls')}  function`;
    console.log([head, titles, ...lines, ...rest].join('\n'));
  }

  return Object.freeze({ enter, leave, wait, resume });
}

globalThis.__wasmhostProfile = profiler();
