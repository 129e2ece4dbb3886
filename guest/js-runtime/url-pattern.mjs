// URLPattern, for applications that name it: that of the package urlpattern-polyfill, where they have it.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const NAME = 'urlpattern-polyfill';
const VERSION = '10.1.0';
// The engine has no tables of these classes. `src/identifiers.js` finds out in another way.
const CLASSES = /\/\[\$_[^/\]]*\\p\{ID_(Start|Continue)\}\]\/u/g;

export const namesUrlPattern = (code) => /(?<![-\w])URLPattern(?![-\w])/.test(code);

export const LACKING =
  `warning: the application names URLPattern, which needs the package ${NAME} ${VERSION}\n` +
  `hint: npm install --save-dev --save-exact ${NAME}@${VERSION}\n`;

// The plugin for esbuild, and whether the package is here. `find` gives the folder and version of an installed package.
export function urlPattern(runtime, find) {
  const found = find(NAME);
  const file = found?.version === VERSION ? join(found.folder, 'dist', 'urlpattern.js') : undefined;
  const setup = ({ onResolve, onLoad }) => {
    onResolve({ filter: /^wasmhost:url-pattern$/ }, () => ({ path: file }));
    onLoad({ filter: /[/\\]urlpattern-polyfill[/\\]dist[/\\]urlpattern\.js$/ }, async ({ path }) => {
      const text = (await readFile(path, 'utf8')).replace(CLASSES, 'ID_$1');
      return { contents: `import { ID_Start, ID_Continue } from ${JSON.stringify(join(runtime, 'identifiers.js'))};${text}` };
    });
  };
  return { plugin: { name: 'url-pattern', setup }, isHere: file !== undefined };
}
