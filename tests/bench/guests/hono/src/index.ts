// A hello in Hono with three of its middlewares. The lines of the first are made and not printed.

import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { logger } from 'hono/logger';
import { secureHeaders } from 'hono/secure-headers';

const app = new Hono();
app.use(logger(() => {}), cors(), secureHeaders());
app.get('/', (c) => c.text('Hello, World!'));

export default app;
