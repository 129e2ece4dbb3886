// A store as the runtime's `entries.js` gives one, in memory, for tests under Node.js.

const encoder = new TextEncoder();
const order = (one, other) => Buffer.compare(encoder.encode(one), encoder.encode(other));

export function memoryStore() {
  const entries = new Map();
  const live = (key) => {
    const entry = entries.get(key);
    return entry === undefined || (entry.expiresAt !== null && entry.expiresAt <= Date.now()) ? null : entry;
  };
  return {
    entries,
    get: (keys) => keys.map((key) => live(key) && { value: live(key).value.slice(), metadata: live(key).metadata }),
    set(key, value, metadata, ttl) {
      entries.set(key, { value: value.slice(), metadata, expiresAt: ttl === null ? null : Date.now() + ttl });
    },
    delete(keys) {
      for (const key of keys) entries.delete(key);
    },
    list(prefix, after, limit) {
      const names = [...entries.keys()].filter((key) => live(key) && key.startsWith(prefix)).sort(order);
      const rest = names.filter((name) => after === null || order(name, after) > 0);
      const page = rest.slice(0, limit);
      return {
        keys: page.map((name) => ({ name, expiresAt: entries.get(name).expiresAt, metadata: entries.get(name).metadata })),
        next: rest.length > limit ? page.at(-1) : null,
      };
    },
  };
}
