// Each path is one question; parameters are in the query, and bodies are values.

const text = (value) => new Response(value === null ? 'null' : value);
const json = (value) => Response.json(value ?? null);

async function told(promise) {
  try {
    return text(String(await promise));
  } catch (error) {
    return new Response(`${error.name}: ${error.message}`, { status: 400 });
  }
}

const optionsOf = (query) => JSON.parse(query.get('options') ?? 'null') ?? undefined;

// The operations of a namespace.
const kv = {
  async get(namespace, query) {
    const type = query.get('type') ?? 'text';
    const value = await namespace.get(query.get('key'), type);
    return type === 'json' ? json(value) : text(value);
  },
  async many(namespace, query) {
    return json([...(await namespace.get(query.getAll('key'), optionsOf(query)))]);
  },
  async entry(namespace, query) {
    return json(await namespace.getWithMetadata(query.get('key')));
  },
  // As it comes, as a stream, or gathered first.
  async put(namespace, query, request) {
    const value = { text: () => request.text(), buffer: () => request.arrayBuffer(), stream: () => request.body }[query.get('as') ?? 'text'];
    return told(namespace.put(query.get('key'), await value(), optionsOf(query)));
  },
  async delete(namespace, query) {
    return told(namespace.delete(query.get('key')));
  },
  async list(namespace, query) {
    return json(await namespace.list(optionsOf(query)));
  },
  // After the response.
  async later(namespace, query, request, ctx) {
    const value = await request.text();
    ctx.waitUntil(new Promise((resolve) => setTimeout(resolve, 20)).then(() => namespace.put(query.get('key'), value)));
    return text('later');
  },
  // Keys that are put and read again, to see that nothing is left of them in the instance.
  async churn(namespace, query) {
    const value = 'x'.repeat(Number(query.get('length')));
    const key = query.get('key');
    await namespace.put(key, value, { metadata: { value: value.length } });
    const found = await namespace.get(key);
    const page = await namespace.list({ prefix: key, limit: 1 });
    return text(String(found === value && page.keys[0].metadata.value === value.length));
  },
};

// The operations of a cache.
const cache = {
  async match(one, query, request) {
    const { headers } = request;
    const found = await one.match(new Request(query.get('url'), { headers }));
    return found ?? new Response('nothing', { status: 404 });
  },
  async put(one, query, request) {
    const headers = JSON.parse(query.get('headers') ?? '{}');
    const made = new Response(request.body, { status: Number(query.get('status') ?? 200), headers });
    return told(one.put(new Request(query.get('url'), { headers: request.headers }), made));
  },
  async delete(one, query) {
    return told(one.delete(query.get('url')));
  },
};

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const [, kind, operation, name] = url.pathname.split('/');
    const query = url.searchParams;
    if (kind === 'kv') {
      try {
        return await kv[operation](env[name ?? 'KV'], query, request, ctx);
      } catch (error) {
        return new Response(`${error.name}: ${error.message}`, { status: 400 });
      }
    }
    if (kind === 'cache') {
      try {
        return await cache[operation](name === undefined ? caches.default : await caches.open(name), query, request);
      } catch (error) {
        return new Response(`${error.name}: ${error.message}`, { status: 400 });
      }
    }
    if (kind === 'env') {
      const { TEXT, OBJECT, GRANTED, SECRET } = env;
      return json({ names: Object.keys(env), TEXT, OBJECT, GRANTED, SECRET, process: [process.env.GRANTED, process.env.OBJECT] });
    }
    if (kind === 'service') {
      return env.ECHO.fetch(new Request(`https://any.test/${operation}?a=1`, request)).catch(
        (error) => new Response(`${error.name}: ${error.message}`, { status: 400 }),
      );
    }
    return new Response('not found', { status: 404 });
  },

  async scheduled(controller, env, ctx) {
    const { cron, scheduledTime, type } = controller;
    controller.noRetry();
    ctx.waitUntil(env.SECOND.put(`run ${cron}`, JSON.stringify({ cron, scheduledTime, type })));
    if (cron === '* * * * * *') throw new Error('a run that fails');
    if (cron === '0-59 * * * * *') ctx.waitUntil(Promise.reject(new Error('what was left of a run fails')));
  },
};
