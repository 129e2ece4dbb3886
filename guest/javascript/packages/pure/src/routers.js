import { zValidator } from '@hono/zod-validator';
import { Hono } from 'hono';
import { bearerAuth } from 'hono/bearer-auth';
import { contextStorage, getContext } from 'hono/context-storage';
import { cors } from 'hono/cors';
import { html } from 'hono/html';
import { jwt, sign } from 'hono/jwt';
import { validator } from 'hono/validator';
import { AutoRouter, cors as ittyCors, error, json, withContent } from 'itty-router';
import { z } from 'zod';

const app = new Hono();
app.use('/api/*', cors({ origin: ['https://a.example'], allowMethods: ['GET'], maxAge: 600, credentials: true }));
app.use('/api/*', jwt({ secret: 'secret', alg: 'HS256' }));
app.get('/api/me', (c) => c.json(c.get('jwtPayload')));
app.post(
  '/form',
  validator('form', ({ title }, c) => (typeof title === 'string' ? { title } : c.text('no title', 400))),
  (c) => c.json(c.req.valid('form'), 201),
);
app.post('/zod', zValidator('json', z.object({ n: z.number().int() })), (c) => c.json(c.req.valid('json')));
app.use('/stored/*', contextStorage());
app.use('/stored/*', async (c, next) => {
  c.set('who', c.req.query('who'));
  await next();
});
app.get('/stored/late', async (c) => {
  await new Promise((resolve) => setTimeout(resolve, 2));
  return c.text(`${getContext().get('who')}, ${getContext() === c}`);
});
app.get('/page', (c) => c.html(html`<p>${c.req.query('q')}</p>`));
app.get('/token', bearerAuth({ token: 'tok' }), (c) => c.text('in'));

const told = async (response, ...fields) => [response.status, await response.text(), ...fields.map((field) => response.headers.get(field))];

export async function hono() {
  const token = await sign({ sub: 'ada', exp: 4_000_000_000 }, 'secret', 'HS256');
  const bearer = (given) => ({ headers: { authorization: `Bearer ${given}`, origin: 'https://a.example' } });
  const body = new FormData();
  body.set('title', 'Über');
  const sent = (content) => ({ method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(content) });
  const preflight = { method: 'OPTIONS', headers: { origin: 'https://a.example', 'access-control-request-method': 'GET' } };
  const [one, two] = await Promise.all([app.request('/stored/late?who=one'), app.request('/stored/late?who=two')]);
  return {
    token,
    me: await told(await app.request('/api/me', bearer(token)), 'access-control-allow-origin', 'vary'),
    forged: await told(await app.request('/api/me', bearer(`${token.slice(0, -3)}AAA`)), 'www-authenticate'),
    preflight: await told(await app.request('/api/me', preflight), 'access-control-max-age', 'access-control-allow-credentials'),
    form: await told(await app.request('/form', { method: 'POST', body })),
    empty: await told(await app.request('/form', { method: 'POST', body: new FormData() })),
    zod: [await told(await app.request('/zod', sent({ n: 1 }))), (await app.request('/zod', sent({ n: 1.5 }))).status],
    stored: [await told(one), await told(two)],
    page: await told(await app.request('/page?q=%3Cb%3E'), 'content-type'),
    tokens: [await told(await app.request('/token', bearer('tok'))), (await app.request('/token', bearer('no'))).status],
  };
}

const { preflight, corsify } = ittyCors({ origin: 'https://a.example' });
const router = AutoRouter({ before: [preflight], finally: [corsify] });
router
  .get('/items/:id', ({ id, query }) => ({ id, query }))
  .post('/items', withContent, ({ content }) => json(content, { status: 201 }))
  .get('/fail', () => error(418, { reason: 'tea' }));

export async function itty() {
  const ask = (path, init) => router.fetch(new Request(`http://test.example${path}`, { headers: { origin: 'https://a.example' }, ...init }));
  return {
    item: await told(await ask('/items/7?a=1&a=2'), 'access-control-allow-origin', 'content-type'),
    made: await told(await ask('/items', { method: 'POST', body: '{"a":[1]}', headers: { 'content-type': 'application/json' } })),
    failed: await told(await ask('/fail')),
    missing: await told(await ask('/nowhere')),
  };
}
