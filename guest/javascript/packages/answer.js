// The handler of routes that give what goes into JSON.
export const answer = (routes) => async (request, env) => {
  const url = new URL(request.url);
  const route = routes[decodeURIComponent(url.pathname.slice(1))];
  if (route === undefined) return Response.json(Object.keys(routes), { status: 404 });
  return Response.json(await route(url, env, request));
};
