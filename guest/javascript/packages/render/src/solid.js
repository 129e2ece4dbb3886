// As Solid's compiler writes it for the server.

import { createMemo, createSignal, For, Show } from 'solid-js';
import { createComponent, escape, renderToStream, renderToString, renderToStringAsync, ssr, ssrAttribute } from 'solid-js/web';

const Row = ({ name }) => ssr(['<li', '>', '</li>'], ssrAttribute('title', escape(name, true), false), escape(name));

function App({ names }) {
  const [count] = createSignal(names.length);
  const doubled = createMemo(() => count() * 2);
  return ssr(
    ['<ul>', '</ul>', '<p>', '</p>'],
    escape(createComponent(For, { each: names, children: (name) => createComponent(Row, { name }) })),
    escape(createComponent(Show, { get when() { return doubled() > 2; }, children: 'many' })),
    escape(doubled()),
  );
}

export async function solid() {
  const app = () => createComponent(App, { names: ['Ada', '"<Grace>"', 'Ä'] });
  const streamed = await new Promise((resolve) => renderToStream(app).pipeTo(new WritableStream({
    chunks: [],
    write(chunk) { this.chunks.push(new TextDecoder().decode(chunk)); },
    close() { resolve(this.chunks.join('')); },
  })));
  return { string: renderToString(app), later: await renderToStringAsync(app), streamed };
}
