// Node's modules, for applications that import them: esbuild takes them from `src/node`, and from packages that the application
// has then. One that imports none of these modules needs none of the packages.

import { existsSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join, resolve, sep } from 'node:path';

import { find } from './packages.mjs';
import { has as hasWord } from './words.mjs';

// The packages, in the versions that `src/node` fits. A module of the runtime names them as `wasmhost:jspm/…`.
const PACKAGES = {
  jspm: { name: '@jspm/core', version: '2.1.0', folder: ['nodelibs', 'browser'] },
  noble: { name: '@noble/hashes', version: '2.4.0', folder: [] },
};

// The modules there are, with the packages that each needs.
const MODULES = {
  assert: ['jspm'],
  'assert/strict': ['jspm'],
  async_hooks: [],
  buffer: ['jspm'],
  console: [],
  crypto: ['jspm', 'noble'],
  diagnostics_channel: ['jspm'],
  events: ['jspm'],
  path: ['jspm'],
  'path/posix': ['jspm'],
  'path/win32': ['jspm'],
  perf_hooks: [],
  process: [],
  punycode: ['jspm'],
  querystring: [],
  stream: ['jspm'],
  'stream/consumers': ['jspm'],
  'stream/promises': ['jspm'],
  'stream/web': ['jspm'],
  string_decoder: ['jspm'],
  timers: [],
  'timers/promises': [],
  url: ['jspm'],
  util: ['jspm'],
  'util/types': ['jspm'],
  zlib: ['jspm'],
};

// What to do without the others.
const INSTEAD = [
  [/^(fs|fs\/.*)$/, 'there is no file system: import the file as a module, or fetch it'],
  [/^(https?|http2)$/, 'take fetch for requests, and `export default { fetch }` for a server'],
  [/^(net|tls|dgram|dns|dns\/.*)$/, 'there are no sockets, only HTTP: take fetch'],
  [/^(child_process|cluster|worker_threads)$/, 'there are no processes and threads: an instance serves one request at a time'],
];

const nameOf = (path) => path.replace(/^node:/, '');

// What to do about modules of Node.js that were not found.
export function hintOfModules(paths) {
  const names = paths.filter(isBuiltin).map(nameOf);
  if (names.length === 0) return undefined;
  const instead = names.map((name) => INSTEAD.find(([pattern]) => pattern.test(name))?.[1]).find(Boolean);
  return (
    `Node.js's ${names[0]} is not here; ${instead ?? 'take what the web has (fetch, crypto, URL, streams)'}. ` +
    'A package that imports it may have an entry for Workers or browsers. docs/JAVASCRIPT.md lists the modules that there are'
  );
}

// The plugin, the packages that were missing, which there are, and the module that needs stores.
export function nodeModules(runtime) {
  const own = join(runtime, 'node') + sep;
  const missing = new Set();
  // The packages, where they are or what they lack.
  const found = new Map();
  const look = (key) => {
    const one = PACKAGES[key];
    if (!found.has(key)) {
      const { folder, lacks } = find(one);
      found.set(key, { root: folder && join(folder, ...one.folder), lacks });
    }
    return found.get(key);
  };
  // Where a module is, or what it lacks.
  const locate = (path, name) => {
    const lacking = MODULES[name].filter((key) => look(key).root === undefined);
    for (const key of lacking) missing.add(PACKAGES[key]);
    if (lacking.length > 0) return { errors: lacking.map((key) => ({ text: `${path} needs ${look(key).lacks}` })) };
    const file = join(own, `${name.replace('/', '_')}.js`);
    return { path: existsSync(file) ? file : join(look('jspm').root, `${name}.js`) };
  };
  const setup = ({ onResolve, onLoad, resolve: resolveAs }) => {
    onResolve({ filter: new RegExp(`^(node:)?(${Object.keys(MODULES).join('|')})$`) }, async (args) => {
      const { path, importer, kind, pluginData, resolveDir } = args;
      if (pluginData === own) return undefined;
      const name = nameOf(path);
      const other = await resolveAs(path, { importer, kind, resolveDir, pluginData: own });
      if (other.errors.length === 0) {
        // What the importer's package.json has for browsers goes first, then ours, then a package of the same name.
        const isPackage = name === path && other.path.includes(`${sep}node_modules${sep}${name.split('/')[0]}${sep}`);
        if (!isPackage || MODULES[name].some((key) => look(key).root === undefined)) return undefined;
      }
      const located = locate(path, name);
      // What `require` gives is the default export.
      return kind === 'require-call' && located.path !== undefined ? { path: located.path, namespace: 'wasmhost-require' } : located;
    });
    onLoad({ filter: /^/, namespace: 'wasmhost-require' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)}).default;`,
      resolveDir: own,
    }));
    onResolve({ filter: new RegExp(`^wasmhost:(${Object.keys(PACKAGES).join('|')})/`) }, ({ path }) => {
      const [, key, name] = /^wasmhost:(\w+)\/(.*)$/.exec(path);
      return { path: join(look(key).root, `${name}.js`) };
    });
    // The `process` of @jspm/core, in the version above.
    onResolve({ filter: /\/chunk-DEMDiNwt\.js$/ }, ({ importer }) =>
      importer.startsWith(`${look('jspm').root}${sep}`) ? { path: join(own, 'jspm-process.js') } : undefined,
    );
  };
  return {
    plugin: { name: 'node', setup },
    missing,
    has: (key) => look(key).root !== undefined,
    hooks: join(own, 'async_hooks.js'),
  };
}

// What a bundle needs beside it: globals of Node.js that it names, and stores for its async functions.
export function needsOf(code, inputs, { has, hooks }) {
  const installs = [];
  if (hasWord(code, 'process|setImmediate|clearImmediate')) installs.push('node/install-process.js');
  if (hasWord(code, 'Buffer') && has('jspm')) installs.push('node/install-buffer.js');
  const hasStores = Object.entries(inputs).some(([path, { bytesInOutput }]) => resolve(path) === hooks && bytesInOutput > 0);
  return { installs, supported: hasStores ? { 'async-await': false, 'async-generator': false, 'for-await': false } : {} };
}
