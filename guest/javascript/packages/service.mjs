// What the clients ask: a server as those of OpenAI and Stripe answer, in part. It prints its address.
//
//   node service.mjs

import { createServer } from 'node:http';

let failures = 0;

function stream(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const content of ['one', ' two', ' drei ä']) {
    response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`);
  }
  response.end('data: [DONE]\n\n');
}

const page = (query) => {
  const ids = ['cus_1', 'cus_2', 'cus_3'];
  const from = ids.indexOf(query.get('starting_after')) + 1;
  const to = from + Number(query.get('limit'));
  return { object: 'list', url: '/v1/customers', has_more: to < ids.length, data: ids.slice(from, to).map((id) => ({ id, object: 'customer' })) };
};

function answer({ method, path, query, fields, body }, response) {
  const give = (status, content) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(content));
  };
  switch (`${method} ${path}`) {
    case 'PUT /echo':
      return give(200, { method, fields, body });
    case 'POST /v1/chat/completions': {
      const { stream: isStream, messages } = JSON.parse(body);
      if (isStream) return stream(response);
      return give(200, { choices: [{ index: 0, message: { role: 'assistant', content: `${messages[0].content}! ${fields.authorization}` } }] });
    }
    case 'GET /v1/models':
      failures += 1;
      return failures % 2 === 1 ? give(500, { error: { message: 'again' } }) : give(200, { object: 'list', data: [{ id: 'a' }, { id: 'b' }] });
    case 'POST /v1/customers':
      return give(200, { id: 'cus_1', object: 'customer', sent: Object.fromEntries(new URLSearchParams(body)), key: fields['idempotency-key'] });
    case 'GET /v1/customers':
      return give(200, page(query));
    default:
      return give(404, { error: { type: 'invalid_request_error', code: 'missing', message: `no such thing: ${path}` } });
  }
}

createServer((request, response) => {
  const { pathname: path, searchParams: query } = new URL(request.url, 'http://service');
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => answer({ method: request.method, path, query, fields: request.headers, body: Buffer.concat(chunks).toString() }, response));
}).listen(0, '127.0.0.1', function () {
  console.log(`http://127.0.0.1:${this.address().port}`);
});
