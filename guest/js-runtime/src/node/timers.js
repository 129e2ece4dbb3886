// node:timers. Timers are numbers, as on the web, and need no `unref`: what is left of them goes with the request.

export const setTimeout = (run, ms, ...args) => globalThis.setTimeout(run, ms, ...args);
export const setInterval = (run, ms, ...args) => globalThis.setInterval(run, ms, ...args);
export const setImmediate = (run, ...args) => globalThis.setTimeout(run, 0, ...args);
export const clearTimeout = (number) => globalThis.clearTimeout(number);
export const clearInterval = clearTimeout;
export const clearImmediate = clearTimeout;

export default { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate };
