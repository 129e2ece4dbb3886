// Notes in Hono, as Hono's own documentation would write them: routes with parameters, JSON, cookies, middleware, a
// streamed answer, and what goes on after the answer.

import { Hono } from 'hono';
import { basicAuth } from 'hono/basic-auth';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { cors } from 'hono/cors';
import { etag } from 'hono/etag';
import { HTTPException } from 'hono/http-exception';
import { secureHeaders } from 'hono/secure-headers';
import { streamText } from 'hono/streaming';
import { validator } from 'hono/validator';

type Note = { id: number; title: string };
type Env = { Bindings: { GREETING?: string }; Variables: { began: number } };

const notes: Note[] = [];
const done: string[] = [];
const app = new Hono<Env>();

app.use(async (c, next) => {
  c.set('began', Date.now());
  await next();
  c.header('x-took', `${Date.now() - c.get('began')}`);
});
app.use('/api/*', cors({ origin: 'https://example.test' }));
app.use('/page/*', etag(), secureHeaders());
app.use('/admin/*', basicAuth({ username: 'ada', password: 'lovelace' }));

app.get('/', (c) => c.text(c.env.GREETING ?? 'Hello, Hono!'));
app.get('/hello/:name', (c) => c.html(`<p>Hello, ${c.req.param('name')}!</p>`));
app.get('/page/:n{[0-9]+}', (c) => c.text(`page ${c.req.param('n')}`));
app.get('/admin/notes', (c) => c.json({ count: notes.length }));

const api = new Hono<Env>();
const title = validator('json', (value, c) =>
  typeof value.title === 'string' ? { title: value.title } : c.json({ error: 'a note has a title' }, 400),
);
api.get('/notes', (c) => {
  const wanted = c.req.query('title');
  return c.json(notes.filter((note) => wanted === undefined || note.title === wanted));
});
api.post('/notes', title, (c) => {
  const note = { id: notes.length, ...c.req.valid('json') };
  notes.push(note);
  c.executionCtx.waitUntil(new Promise((resolve) => setTimeout(resolve, 20)).then(() => done.push(note.title)));
  return c.json(note, 201, { location: `/api/notes/${note.id}` });
});
api.get('/notes/:id', (c) => {
  const note = notes[Number(c.req.param('id'))];
  if (note === undefined) throw new HTTPException(404, { message: 'no such note' });
  return c.json(note);
});
api.get('/done', (c) => c.json(done));
app.route('/api', api);

app.get('/login', (c) => {
  setCookie(c, 'user', 'Jürgen', { httpOnly: true, path: '/' });
  setCookie(c, 'theme', 'dark');
  return c.redirect('/me');
});
app.get('/me', (c) => c.json(getCookie(c)));
app.get('/logout', (c) => {
  deleteCookie(c, 'user');
  return c.body(null, 204);
});
app.post('/upload', async (c) => {
  const { file, label } = await c.req.parseBody();
  if (!(file instanceof File)) return c.text('no file', 400);
  return c.json({ label, name: file.name, size: file.size, text: await file.text() });
});
app.get('/count/:to', (c) =>
  streamText(c, async (stream) => {
    for (let n = 1; n <= Number(c.req.param('to')); n++) {
      await stream.writeln(`${n}`);
      await stream.sleep(5);
    }
  }),
);
app.get('/fail', () => {
  throw new Error('as asked');
});
app.notFound((c) => c.text('no such page', 404));
app.onError((error, c) => (error instanceof HTTPException ? error.getResponse() : c.text(`failed: ${error.message}`, 500)));

export default app;
