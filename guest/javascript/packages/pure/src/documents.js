import { load } from 'cheerio';
import { parseHTML } from 'linkedom';
import { Marked } from 'marked';

const PAGE = '<!doctype html><ul id="fruits"><li class="apple">Apple<li class="pear">Birne &amp; Ähre</ul><p>1 &lt; 2</p>';

export function cheerio() {
  const $ = load(PAGE);
  $('li.apple').addClass('red').after('<li>Plum</li>');
  $('p').replaceWith((_, node) => `<b>${$(node).html()}</b>`);
  return {
    texts: $('#fruits > li').map((_, node) => $(node).text()).get(),
    found: $('li:contains("Birne")').attr('class'),
    html: $.html(),
  };
}

export function linkedom() {
  const { document, CustomEvent } = parseHTML(PAGE);
  const list = document.querySelector('#fruits');
  const heard = [];
  list.addEventListener('ripe', ({ detail }) => heard.push(detail));
  list.dispatchEvent(new CustomEvent('ripe', { detail: 7 }));
  const item = document.createElement('li');
  item.textContent = '<new>';
  list.prepend(item);
  item.dataset.kind = 'x';
  return { heard, count: document.querySelectorAll('li:not(.pear)').length, html: document.toString() };
}

const TEXT = `# Über *uns*

A [link](https://example.com "t"), \`code\`, **bold**„quoted“, ~~gone~~ and <https://a.example>.

| a | b |
|---|:-:|
| 1 | ä |

- [x] done
- item
  1. nested

\`\`\`js
let x = '<y>';
\`\`\`
`;

export async function marked() {
  const plain = new Marked({ gfm: true });
  const own = new Marked({ renderer: { heading: ({ depth, text }) => `<h${depth} id="x">${text}</h${depth}>` }, async: true });
  return { html: plain.parse(TEXT), own: await own.parse('# Title'), tokens: plain.lexer('a **b** c')[0].tokens.map(({ type }) => type) };
}
