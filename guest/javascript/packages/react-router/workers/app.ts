// As the starter for Workers has it.

import { createRequestHandler } from 'react-router';

const handle = createRequestHandler(() => import('virtual:react-router/server-build'), import.meta.env.MODE);

export default {
  fetch: (request: Request, env: Record<string, string>, ctx: unknown) => handle(request, { cloudflare: { env, ctx } }),
};
