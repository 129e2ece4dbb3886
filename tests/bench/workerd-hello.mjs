// What tests/bench/compare asks of workerd.
export default {
  fetch() {
    return new Response('Hello, World!', { headers: { 'content-type': 'text/plain' } });
  },
};
