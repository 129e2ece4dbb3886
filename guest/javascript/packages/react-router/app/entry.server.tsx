// As the starter for Workers has it.

import { isbot } from 'isbot';
import { renderToReadableStream } from 'react-dom/server';
import { type EntryContext, ServerRouter } from 'react-router';

export default async function handleRequest(request: Request, status: number, headers: Headers, routerContext: EntryContext) {
  let isShellSent = false;
  let statusNow = status;
  const body = await renderToReadableStream(<ServerRouter context={routerContext} url={request.url} />, {
    onError(error: unknown) {
      statusNow = 500;
      // What fails before it throws here.
      if (isShellSent) console.error(error);
    },
  });
  isShellSent = true;
  const agent = request.headers.get('user-agent');
  if (agent !== null && isbot(agent)) await body.allReady;
  headers.set('Content-Type', 'text/html');
  return new Response(body, { headers, status: statusNow });
}
