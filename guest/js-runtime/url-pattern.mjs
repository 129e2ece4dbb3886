// URLPattern, for applications that name it: that of the package urlpattern-polyfill, where they have it.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { addTools, find } from './packages.mjs';

const PACKAGE = { name: 'urlpattern-polyfill', version: '10.1.0' };
// The engine has no tables of these classes. `src/identifiers.js` finds out in another way.
const CLASSES = /\/\[\$_[^/\]]*\\p\{ID_(Start|Continue)\}\]\/u/g;

// The plugin for esbuild, and what the build says where the package is not here.
export function urlPattern(runtime) {
  const { folder, lacks } = find(PACKAGE);
  const setup = ({ onResolve, onLoad }) => {
    onResolve({ filter: /^wasmhost:url-pattern$/ }, () => ({ path: join(folder, 'dist', 'urlpattern.js') }));
    onLoad({ filter: /[/\\]urlpattern-polyfill[/\\]dist[/\\]urlpattern\.js$/ }, async ({ path }) => {
      const text = (await readFile(path, 'utf8')).replace(CLASSES, 'ID_$1');
      return { contents: `import { ID_Start, ID_Continue } from ${JSON.stringify(join(runtime, 'identifiers.js'))};${text}` };
    });
  };
  const warning = lacks && `warning: the application names URLPattern, which needs ${lacks}\nhint: ${addTools([PACKAGE])}\n`;
  return { plugin: { name: 'url-pattern', setup }, warning };
}
