import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';

const storage = new AsyncLocalStorage();
const other = new AsyncLocalStorage();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function deep(levels) {
  if (levels === 0) return storage.getStore();
  await sleep(1);
  return deep(levels - 1);
}

async function* counted(to) {
  for (let count = 0; count < to; count++) {
    await null;
    yield [count, storage.getStore()];
  }
}

export async function stored(url) {
  const seen = {};
  seen.outside = storage.getStore() ?? null;
  seen.nested = await storage.run('outer', async () => {
    const before = storage.getStore();
    const inner = await storage.run('inner', () => deep(3));
    await null;
    return [before, inner, storage.getStore(), await storage.exit(() => deep(1)) ?? null, storage.getStore()];
  });
  // Each goes on while the others wait.
  seen.beside = await Promise.all(['a', 'b', 'c'].map((name, index) => storage.run(name, async () => {
    await sleep(3 - index);
    const first = storage.getStore();
    await Promise.all([sleep(1), Promise.resolve()]);
    return [first, storage.getStore(), await other.run(index, async () => { await null; return [storage.getStore(), other.getStore()]; }), other.getStore() ?? null];
  })));
  seen.generators = await storage.run('g', async () => {
    const all = [];
    for await (const one of counted(2)) all.push(one);
    return all;
  });
  seen.callbacks = await storage.run('cb', () => new Promise((resolve) => {
    const found = [];
    queueMicrotask(() => found.push(storage.getStore()));
    Promise.reject(new Error('x')).catch(() => found.push(storage.getStore())).finally(() => found.push(storage.getStore()));
    setTimeout((...args) => resolve([...found, storage.getStore(), args]), 2, 1, 2);
  }));
  seen.thrown = await storage.run('t', async () => {
    try {
      await storage.run('u', async () => { await null; throw new Error('x'); });
    } catch {
      return storage.getStore();
    }
  });
  const resource = storage.run('r', () => new AsyncResource('test'));
  const snapshot = storage.run('s', () => AsyncLocalStorage.snapshot());
  const bound = storage.run('b', () => AsyncLocalStorage.bind(() => storage.getStore()));
  seen.kept = [resource.runInAsyncScope((x) => [storage.getStore(), x], null, 1), snapshot(() => storage.getStore()), bound()];
  seen.entered = await entered();
  seen.after = storage.getStore() ?? null;
  const local = new AsyncLocalStorage();
  seen.own = class { static async run() { await null; return local.getStore(); } };
  seen.own = await local.run(url.pathname, () => seen.own.run());
  return seen;
}

async function entered() {
  await null;
  storage.enterWith('entered');
  await sleep(1);
  const found = storage.getStore();
  await Promise.resolve().then(() => null);
  return [found, storage.getStore()];
}
