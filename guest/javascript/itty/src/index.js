// Todos in itty-router, as its own documentation would write them.

import { AutoRouter, cors, error, json, status, text, withCookies } from 'itty-router';

const { preflight, corsify } = cors({ origin: 'https://example.test' });
const todos = new Map();

const router = AutoRouter({
  before: [preflight, withCookies],
  finally: [corsify],
  missing: () => error(404, 'no such page'),
});

router
  .get('/', () => text('Hello, itty!'))
  .get('/hello/:name?', ({ name = 'you', query }) => `${query.greeting ?? 'Hello'}, ${name}!`)
  .get('/todos', () => [...todos.values()])
  .get('/todos/:id', ({ id }) => todos.get(id) ?? error(404, 'no such todo'))
  .post('/todos', async (request) => {
    const { title } = await request.json();
    if (typeof title !== 'string') return error(400, 'a todo has a title');
    const todo = { id: `${todos.size + 1}`, title };
    todos.set(todo.id, todo);
    return json(todo, { status: 201 });
  })
  .delete('/todos/:id', ({ id }) => (todos.delete(id) ? status(204) : error(404, 'no such todo')))
  .get('/cookies', ({ cookies }) => cookies)
  .all('/method', ({ method }) => text(method))
  .get('/fail', () => {
    throw new Error('as asked');
  });

export default { ...router };
