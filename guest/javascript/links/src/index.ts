export interface Env {
  LINKS: KVNamespace;
  TITLE: string;
  LIMITS: { slug: number; days: number };
  // A secret: `wrangler secret put ADMIN_TOKEN`.
  ADMIN_TOKEN: string;
}

interface Link {
  url: string;
  hits: number;
}

interface Meta {
  created: number;
  host: string;
}

interface Summary {
  at: string;
  cron: string;
  links: number;
  hits: number;
  hosts: Record<string, number>;
}

const LINK = 'link:';
const SUMMARY = 'summary';
const DAY = 86_400;

const json = (data: unknown, init?: ResponseInit): Response => Response.json(data, init);

const isAdmin = (request: Request, env: Env): boolean => request.headers.get('authorization') === `Bearer ${env.ADMIN_TOKEN}`;

function randomSlug(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return [...bytes].map((byte) => byte.toString(36).padStart(2, '0')).join('');
}

async function create(request: Request, env: Env): Promise<Response> {
  const given = (await request.json().catch(() => null)) as { url?: string; slug?: string; days?: number } | null;
  let target: URL;
  try {
    target = new URL(given?.url ?? '');
  } catch {
    return json({ error: 'url is no URL' }, { status: 400 });
  }
  const slug = given?.slug ?? randomSlug();
  if (!/^[-\w]+$/.test(slug) || slug.length > env.LIMITS.slug) return json({ error: 'slug is not valid' }, { status: 400 });
  if ((await env.LINKS.get(LINK + slug)) !== null) return json({ error: 'slug is taken' }, { status: 409 });
  const days = Math.min(given?.days ?? env.LIMITS.days, env.LIMITS.days);
  await env.LINKS.put(LINK + slug, JSON.stringify({ url: target.href, hits: 0 } satisfies Link), {
    expirationTtl: days * DAY,
    metadata: { created: Date.now(), host: target.host } satisfies Meta,
  });
  return json({ slug, short: new URL(`/${slug}`, request.url).href }, { status: 201 });
}

async function list(url: URL, env: Env): Promise<Response> {
  const page = await env.LINKS.list<Meta>({
    prefix: LINK,
    limit: Number(url.searchParams.get('limit') ?? 100),
    cursor: url.searchParams.get('cursor'),
  });
  return json({
    links: page.keys.map(({ name, expiration, metadata }) => ({ slug: name.slice(LINK.length), host: metadata?.host, expiration })),
    cursor: page.list_complete ? null : page.cursor,
  });
}

async function count(slug: string, link: Link, env: Env): Promise<void> {
  const { metadata } = await env.LINKS.getWithMetadata<Meta>(LINK + slug);
  await env.LINKS.put(LINK + slug, JSON.stringify({ ...link, hits: link.hits + 1 }), {
    expirationTtl: env.LIMITS.days * DAY,
    metadata,
  });
}

async function follow(slug: string, env: Env, ctx: ExecutionContext): Promise<Response> {
  const link = await env.LINKS.get<Link>(LINK + slug, { type: 'json', cacheTtl: 60 });
  if (link === null) return new Response('no such link', { status: 404 });
  ctx.waitUntil(count(slug, link, env));
  return Response.redirect(link.url, 302);
}

async function summary(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
  const cache = caches.default;
  const cached = await cache.match(request);
  if (cached) return cached;
  const found = await env.LINKS.get(SUMMARY, 'stream');
  if (found === null) return json({ error: 'the first run is still to come' }, { status: 404 });
  const response = new Response(found, { headers: { 'content-type': 'application/json', 'cache-control': 'public, max-age=300' } });
  ctx.waitUntil(cache.put(request, response.clone()));
  return response;
}

async function summarize(cron: string, at: number, env: Env): Promise<void> {
  const made: Summary = { at: new Date(at).toISOString(), cron, links: 0, hits: 0, hosts: {} };
  let cursor: string | undefined;
  do {
    const page: KVNamespaceListResult<Meta> = await env.LINKS.list<Meta>({ prefix: LINK, limit: 50, cursor });
    for (const { name, metadata } of page.keys) {
      const link = await env.LINKS.get<Link>(name, 'json');
      if (link === null) continue;
      made.links += 1;
      made.hits += link.hits;
      if (metadata) made.hosts[metadata.host] = (made.hosts[metadata.host] ?? 0) + 1;
    }
    cursor = page.list_complete ? undefined : page.cursor;
  } while (cursor !== undefined);
  await env.LINKS.put(SUMMARY, JSON.stringify(made));
}

export default {
  async fetch(request, env, ctx): Promise<Response> {
    const url = new URL(request.url);
    const [, first, ...rest] = url.pathname.split('/');
    if (first === '') return new Response(`<h1>${env.TITLE}</h1>`, { headers: { 'content-type': 'text/html' } });
    if (first !== 'api') return follow(first, env, ctx);
    if (rest[0] === 'summary' && request.method === 'GET') return summary(request, env, ctx);
    if (!isAdmin(request, env)) return json({ error: 'not allowed' }, { status: 401 });
    if (rest[0] !== 'links') return json({ error: 'not found' }, { status: 404 });
    if (request.method === 'POST') return create(request, env);
    if (request.method === 'GET') return list(url, env);
    if (request.method === 'DELETE' && rest[1] !== undefined) {
      await env.LINKS.delete(LINK + rest[1]);
      return new Response(null, { status: 204 });
    }
    return json({ error: 'not allowed' }, { status: 405 });
  },

  async scheduled(controller, env, ctx): Promise<void> {
    ctx.waitUntil(summarize(controller.cron, controller.scheduledTime, env));
  },
} satisfies ExportedHandler<Env>;
