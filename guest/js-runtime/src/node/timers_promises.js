// node:timers/promises.

export function setTimeout(ms, value = undefined, { signal } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const number = globalThis.setTimeout(resolve, ms, value);
    signal?.addEventListener('abort', () => {
      globalThis.clearTimeout(number);
      reject(signal.reason);
    });
  });
}

export const setImmediate = (value, options) => setTimeout(0, value, options);

export async function* setInterval(ms, value = undefined, options = undefined) {
  for (;;) yield await setTimeout(ms, value, options);
}

export const scheduler = { wait: (ms, options) => setTimeout(ms, undefined, options), yield: () => setTimeout(0) };

export default { setTimeout, setImmediate, setInterval, scheduler };
