// What tests/bench/apps asks of workerd: the faults of guest/faults.wasm that its workers can commit.
const kept = [];

function burn(turns) {
  let sum = 0;
  for (let turn = 0; turn < turns; turn++) sum = (sum * 31 + turn) | 0;
  return sum;
}

function stream(chunks, bytes) {
  const chunk = new Uint8Array(bytes).fill(120);
  return new ReadableStream({
    pull(controller) {
      if (chunks-- > 0) controller.enqueue(chunk);
      else controller.close();
    },
  });
}

export default {
  fetch(request) {
    const url = new URL(request.url);
    const number = (name, usual) => Number(url.searchParams.get(name) ?? usual);
    switch (url.pathname) {
      case '/burn': return new Response(String(burn(number('turns', 1))));
      case '/trap': throw new Error('as asked');
      case '/loop': for (;;);
      case '/alloc': for (;;) kept.push(new Array(1 << 17).fill(kept.length));
      case '/leak': kept.push(new Uint8Array(number('bytes', 1)).fill(1)); return new Response('leaked');
      case '/wait-forever': return new Promise(() => {});
      case '/stream': return new Response(stream(number('chunks', 1), number('bytes', 1)));
      default: return new Response('Hello, World!', { headers: { 'content-type': 'text/plain' } });
    }
  },
};
