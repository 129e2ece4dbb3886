// Node's modules, for applications that import them: esbuild takes them from `src/node`, from the package @jspm/core, and hashes from
// @noble/hashes. An application that imports none needs none of these packages.

import { existsSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join, sep } from 'node:path';

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
  querystring: ['jspm'],
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
    'For a package that imports it, look for its entry for Workers or browsers; docs/JAVASCRIPT.md lists the modules that there are'
  );
}

// What gets the packages that are missing.
export const commandOf = (names) =>
  `npm install --save-dev --save-exact ${names.map((name) => `${PACKAGES[name].name}@${PACKAGES[name].version}`).join(' ')}`;

const textOf = (path, { name, version }, found) =>
  `${path} needs the package ${name} ${version}, ${found === undefined ? 'which is not installed here' : `and ${found} is installed`}`;

// The plugin, with the packages that were missing. `find` gives the folder and version of an installed package.
export function nodeModules(runtime, find) {
  const own = join(runtime, 'node') + sep;
  const missing = new Set();
  // The packages that are here, as folders.
  const folders = new Map();
  const folderOf = (key) => {
    const { name, version, folder } = PACKAGES[key];
    if (!folders.has(key)) {
      const found = find(name);
      folders.set(key, { root: found?.version === version ? join(found.folder, ...folder) : undefined, found: found?.version });
    }
    return folders.get(key);
  };
  // Where a module is, or what it lacks.
  const locate = (path, name) => {
    for (const key of MODULES[name]) {
      const { root, found } = folderOf(key);
      if (root !== undefined) continue;
      missing.add(key);
      return { errors: [{ text: textOf(path, PACKAGES[key], found) }] };
    }
    const file = join(own, `${name.replace('/', '_')}.js`);
    return { path: existsSync(file) ? file : join(folderOf('jspm').root, `${name}.js`) };
  };
  const setup = ({ onResolve, onLoad, resolve }) => {
    onResolve({ filter: new RegExp(`^(node:)?(${Object.keys(MODULES).join('|')})$`) }, async (args) => {
      const { path, importer, kind, pluginData, resolveDir } = args;
      if (pluginData === own) return undefined;
      const name = nameOf(path);
      // A package of the same name, where ours are not.
      if (name === path && MODULES[name].some((key) => folderOf(key).root === undefined)) {
        const found = await resolve(path, { importer, kind, resolveDir, pluginData: own });
        if (found.errors.length === 0) return { path: found.path, sideEffects: found.sideEffects };
      }
      const found = locate(path, name);
      // What `require` gives is the default export.
      return kind === 'require-call' && found.path !== undefined ? { path: found.path, namespace: 'wasmhost-require' } : found;
    });
    onLoad({ filter: /^/, namespace: 'wasmhost-require' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)}).default;`,
      resolveDir: own,
    }));
    onResolve({ filter: /^wasmhost:(jspm|noble)\// }, ({ path }) => {
      const [, key, name] = /^wasmhost:(\w+)\/(.*)$/.exec(path);
      return { path: join(folderOf(key).root, `${name}.js`) };
    });
    // Its `process`, in the version above.
    onResolve({ filter: /\/chunk-DEMDiNwt\.js$/ }, ({ importer }) =>
      importer.startsWith(folderOf('jspm').root) ? { path: join(own, 'jspm-process.js') } : undefined,
    );
  };
  return { plugin: { name: 'node', setup }, missing, has: (key) => folderOf(key).root !== undefined };
}

// What a bundle needs beside it: globals of Node.js that it names, and stores for its async functions.
export function needsOf(code, { inputs }, modules) {
  const names = (word) => new RegExp(`(?<![-\\w])${word}(?![-\\w])`).test(code);
  const installs = [];
  if (names('process') || names('(set|clear)Immediate')) installs.push('node/install-process.js');
  if (names('Buffer') && modules.has('jspm')) installs.push('node/install-buffer.js');
  const isHooks = ([path, { bytesInOutput }]) => /[/\\]node[/\\]async_hooks\.js$/.test(path) && bytesInOutput > 0;
  const hasStores = Object.entries(inputs).some(isHooks);
  return { installs, supported: hasStores ? { 'async-await': false, 'async-generator': false, 'for-await': false } : {} };
}
