import { render } from 'svelte/server';

import Page from './Page.svelte.js';

export function svelte() {
  const { head, body } = render(Page, { props: { names: ['Ada', '<Grace>', 'Ä'], title: 'A & B' } });
  return { head, body };
}
