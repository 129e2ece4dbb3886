// Serves the application on the `fetch` event, which is what componentize-js makes a component of.
import app from './app.js';

addEventListener('fetch', (event) => {
  const context = { waitUntil: (promise) => event.waitUntil(promise), passThroughOnException() {} };
  const answer = async () => app.fetch(event.request, {}, context);
  event.respondWith(answer());
});
