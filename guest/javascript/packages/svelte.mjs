// Compiles the components of Svelte for the server: node svelte.mjs FILE.svelte...

import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { compile } from 'svelte/compiler';

for (const file of process.argv.slice(2)) {
  const { js } = compile(readFileSync(file, 'utf8'), { generate: 'server', filename: basename(file) });
  writeFileSync(`${file}.js`, js.code.replaceAll(/(from '\.\/\w+\.svelte)'/g, "$1.js'"));
}
