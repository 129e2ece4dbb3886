// Makes a component of an application: node build.mjs ENTRY OUTPUT MANAGER [--profile]
//
// With --profile, the component tells how long its functions run. ENTRY exports the application by default, or adds a listener for
// `fetch`. MANAGER is the project's package manager, for hints. esbuild and componentize-js are taken from the node_modules of the
// present folder or of one above it. Beside this file are bindings.json, what the application finds in its `env`, and notes.txt, what
// to say of that.

import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { classesOf, WITHOUT_LITERALS } from './classes.mjs';
import { instrument } from './instrument.mjs';
import { hintOfModules, needsOf, nodeModules } from './node.mjs';
import { addPackages, addTools, find, installAll, isNamed, useManager } from './packages.mjs';
import { BUNDLE, encode, originals, reader } from './src/places.mjs';
import { urlPattern } from './url-pattern.mjs';
import { has } from './words.mjs';

const here = dirname(fileURLToPath(import.meta.url));
// The versions that the runtime fits: `bindings.js` the engine of the one, `src/streams.js` what the other keeps in a stream.
const COMPONENTIZE = { name: '@bytecodealliance/componentize-js', version: '0.23.0' };
// componentize-js imports it and names it nowhere, so package managers remove it from projects that do not.
const SHIM = { name: '@bytecodealliance/preview2-shim', version: '0.17.9', isAny: true };
const STREAMS = { name: 'web-streams-polyfill', version: '4.3.0' };
const ESBUILD = { name: 'esbuild' };
const ACORN = { name: 'acorn' };

// What comes with applications that have all of these words in them, or something of this kind in their `env`: a module that is
// loaded first, what the world has then: native parts (`wit/deps`), with what they need themselves, and what only the host can do; and
// what to say of it.
const STORES = ['wasmhost:keyvalue/entries@0.1.0'];
const OF_CACHES = 'note: `caches` keeps responses in the store `cache`: `stores = ["cache"]` of the app in wasmhost.toml grants it\n';
const STREAM = 'CompressionStream|DecompressionStream';
const PARTS = [
  { words: ['subtle'], module: 'crypto/install.js', imports: ['wasi:random/random@0.2.10', 'wasmhost:native/crypto@0.1.0'] },
  { words: [STREAM], module: 'compression.js', imports: ['wasmhost:compression/deflate@0.1.0'] },
  { words: [STREAM, 'brotli'], imports: ['wasmhost:compression/brotli@0.1.0'] },
  { words: ['caches\\??\\.(?:default|open)'], module: 'workers/install-caches.js', imports: STORES, note: OF_CACHES },
  { kind: 'kv', module: 'workers/install-kv.js', imports: STORES },
  { kind: 'services', module: 'workers/install-services.js', imports: [] },
  { kind: 'vars', module: 'workers/install-vars.js', imports: [] },
];

// The host's functions reach all memory of the guest, keys too: only the runtime has them. `import()` of an application, which
// nobody sees here, cannot tell their module's name.
const RAW = `wasmhost:raw-${randomUUID()}`;

// How the runtime's error begins where there is none (`src/entry.js`).
const NO_HANDLER = 'the application has no handler';

// What went wrong, for the user.
class Failure extends Error {}

function fail(reason, hint) {
  throw new Failure(`error: ${reason}\nhint: ${hint}\n`);
}

// The folders of packages that have to be installed.
function installed(...wanted) {
  const found = wanted.map((one) => ({ one, ...find(one) }));
  const lacking = found.filter(({ folder }) => folder === undefined);
  if (lacking.length > 0) {
    const areNamed = lacking.every(({ one, isOther }) => !isOther && isNamed(one));
    fail(
      `the build needs ${lacking.map(({ lacks }) => lacks).join(', and ')}`,
      areNamed ? installAll() : addTools(lacking.map(({ one }) => one)),
    );
  }
  return found.map(({ folder }) => folder);
}

const load = (...path) => import(pathToFileURL(join(...path)));

// What else there is to say of errors of esbuild: its own advice is about other platforms than this.
function hintOf(errors, missing) {
  const names = errors.map(({ text }) => /^Could not resolve "([^"]+)"/.exec(text)?.[1]).filter(Boolean);
  if (errors.some(({ text }) => text.startsWith('Top-level await'))) {
    return 'an application that uses node:async_hooks has no await at the top level: put it into the handler';
  }
  if (names.some((name) => name.startsWith('cloudflare:'))) {
    return (
      'the modules cloudflare:… are there on Workers only: take `env` and `ctx` from the arguments of the handler, and export an object ' +
      'with `fetch` in the place of a WorkerEntrypoint'
    );
  }
  const modules = hintOfModules(names);
  if (modules !== undefined) return modules;
  const packages = names.filter((name) => !/^[./#]/.test(name)).map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)[0]);
  const lines = [];
  if (missing.size > 0) lines.push(addTools([...missing]));
  if (packages.length > 0) lines.push(addPackages([...new Set(packages)]));
  return lines.length > 0 ? lines.join(' && ') : undefined;
}

// The application and the runtime in one file; what reads its places, and which PARTS it has.
async function bundle(entry, output, isProfiled) {
  const [tool, polyfill] = installed(ESBUILD, STREAMS, COMPONENTIZE, SHIM);
  const { default: esbuild } = await load(tool, 'lib', 'main.js');
  const streams = join(polyfill, 'dist', 'ponyfill.mjs');
  const show = async (messages, kind) => {
    for (const text of await esbuild.formatMessages(messages, { kind, color: process.stderr.isTTY })) process.stderr.write(text);
  };
  const runtime = join(here, 'src') + sep;
  const raw = {
    name: 'raw',
    setup: ({ onResolve }) =>
      onResolve({ filter: /^wasmhost:raw$/ }, ({ path, importer }) =>
        importer.startsWith(runtime) ? { path: RAW, external: true } : { errors: [{ text: `${path} is for the runtime alone` }] },
      ),
  };
  const node = nodeModules(join(here, 'src'));
  const pattern = urlPattern(join(here, 'src'));
  let classes;
  const bindings = JSON.parse(await readFile(join(here, 'bindings.json'), 'utf8'));
  // Data for modules of the runtime, by their names.
  const tables = {
    name: 'tables',
    setup: ({ onResolve, onLoad }) => {
      onResolve({ filter: /^wasmhost:(classes|bindings)$/ }, ({ path }) => ({ path, namespace: 'wasmhost' }));
      onLoad({ filter: /^/, namespace: 'wasmhost' }, ({ path }) => {
        return { contents: JSON.stringify(path === 'wasmhost:classes' ? classes : bindings), loader: 'json' };
      });
    },
  };
  // `installs` puts something in the place of globals, before the application's modules run.
  const make = ({ installs = [], supported, ...options }) =>
    esbuild.build({
      ...options,
      plugins: [raw, node.plugin, pattern.plugin, tables],
      stdin: {
        contents: [...['globals.js', ...installs].map((file) => `import './${file}';`), "export * from './entry.js';"].join('\n'),
        resolveDir: join(here, 'src'),
        sourcefile: join(here, 'src', 'main.js'),
      },
      alias: { 'wasmhost:app': resolve(entry), 'wasmhost:streams': streams },
      bundle: true,
      format: 'esm',
      target: 'es2022',
      // The engine has no tables for these, and refuses the literal: as `new RegExp` it fails only where it is reached.
      supported: { 'regexp-unicode-property-escapes': false, ...supported },
      // Packages may have other modules for browsers.
      platform: 'browser',
      mainFields: ['module', 'browser', 'main'],
      conditions: ['worker', 'browser', 'import', 'module'],
      // As wrangler has them.
      loader: { '.html': 'text', '.sql': 'text', '.txt': 'text' },
      define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
      logLevel: 'silent',
      // An application that listens for `fetch` has no default export.
      logOverride: { 'import-is-undefined': 'silent' },
      sourcemap: 'external',
      sourcesContent: false,
      metafile: true,
      write: false,
      outfile: output,
    });
  const outputOf = (made, end) => made.outputFiles.find(({ path }) => path.endsWith(end)).text;
  let made;
  let parts;
  try {
    const inject = isProfiled ? [join(here, 'src', 'profile.js')] : [];
    made = await make({ legalComments: 'none', inject });
    const code = outputOf(made, '.js');
    parts = PARTS.filter(({ words, kind }) =>
      kind === undefined ? words.every((word) => has(code, word)) : Object.keys(bindings[kind]).length > 0,
    );
    classes = classesOf(code);
    const usesPattern = has(code, 'URLPattern');
    if (usesPattern && pattern.warning !== undefined) process.stderr.write(pattern.warning);
    const [, { inputs }] = Object.entries(made.metafile.outputs).find(([path]) => path.endsWith('.js'));
    const needs = needsOf(code, inputs, node);
    made = await make({
      inject,
      installs: [
        ...parts.map(({ module }) => module).filter(Boolean),
        ...(classes === undefined ? [] : ['classes.js']),
        ...(usesPattern && pattern.warning === undefined ? ['url-pattern.js'] : []),
        ...needs.installs,
      ],
      supported: { ...needs.supported, ...(classes === undefined ? {} : WITHOUT_LITERALS) },
    });
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    const advice = /mark the path|platform/;
    await show(error.errors.map((one) => ({ ...one, notes: one.notes.filter(({ text }) => !advice.test(text)) })), 'error');
    const hint = hintOf(error.errors, node.missing);
    throw new Failure(hint === undefined ? '' : `hint: ${hint}\n`);
  }
  await show(made.warnings, 'warning');
  for (const { note } of parts) if (note !== undefined) process.stderr.write(note);
  const [map, code] = [outputOf(made, '.map'), withShallowAsync(outputOf(made, '.js'))];
  const { sources, mappings, names: renamed } = JSON.parse(map);
  const names = sources.map((source) => {
    const path = resolve(dirname(output), source);
    if (path === streams) return 'wasmhost:streams';
    return path.startsWith(runtime) ? `wasmhost:${path.slice(runtime.length)}` : relative(process.cwd(), path);
  });
  const table = encode(mappings, names, code);
  const places = reader(table);
  const text = isProfiled ? await profiled(code, places, originals(mappings, renamed)) : code;
  await writeFile(output, text.replace('"wasmhost:places"', () => JSON.stringify(table)));
  return { places, parts };
}

// esbuild's helper for `async` functions starts them within the constructor of a promise, and so takes the engine's own stack: they
// nest some 170 deep then, and 8,000 and more without. The lines stay as they are. Another esbuild may have another helper.
const withShallowAsync = (code) =>
  code.replace(
    /(\nvar __async = \(__this, __arguments, generator\) => \{\n) {2}return new Promise\(\(resolve, reject\) => \{\n([^]*?\n) {4}(step\(\(generator = .*\);)\n {2}\}\);\n\};/,
    (_, head, body, begin) =>
      `${head}  var resolve, reject, promise = new Promise((yes, no) => { resolve = yes; reject = no; });\n${body}    try { ${begin} } catch (e) { reject(e); }\n  return promise;\n};`,
  );

// The bundle, in which the functions of the application and of its packages are measured.
async function profiled(bundled, places, renamed) {
  const acorn = await load(...installed(ACORN), 'dist', 'acorn.mjs');
  const placeOf = (line, column) => {
    const place = places(`${BUNDLE}:${line}:${column}`);
    return place.startsWith('wasmhost') ? undefined : place;
  };
  const { code, functions } = instrument(acorn, bundled, placeOf, renamed);
  return code.replace('"wasmhost:functions"', () => JSON.stringify(JSON.stringify(functions)));
}

// A module in which an import of wasi's first preview has another name, of the same length.
function withImport(name, other, wasm) {
  const renamed = Buffer.from(wasm);
  const found = renamed.indexOf(`\x16wasi_snapshot_preview1\x0a${name}`);
  if (found < 0) throw new Error(`the engine does not import ${name}`);
  renamed.write(other, found + 24);
  return renamed;
}

// A module in which the only constant of this value is another one, which takes as many bytes.
function withConstant(from, to, wasm) {
  const bytesOf = (value, length = 0) => {
    const bytes = [0x42];
    for (let rest = value; bytes.length === 1 || rest > 0n || (bytes.at(-1) & 0x40) !== 0; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
    while (bytes.length < length) bytes.push(0x80);
    bytes[bytes.length - 1] &= 0x7f;
    return Buffer.from(bytes);
  };
  const old = bytesOf(from);
  const changed = Buffer.from(wasm);
  const at = changed.indexOf(old);
  const made = bytesOf(to, old.length);
  if (at < 0 || changed.indexOf(old, at + 1) >= 0 || made.length !== old.length) throw new Error(`the engine has not one constant ${from}`);
  made.copy(changed, at);
  return changed;
}

// What the engine sets its garbage collector up with, two sizes in one constant each: it is made for browsers. Objects that
// are new may take so much before they are looked through, and old ones, or what they hold outside of the engine's own heap, grow
// by so much before all of it is.
const MIB = 1024n * 1024n;
const pair = (low, high) => low | (high << 32n);
const SIZES = [
  [pair(MIB / 4n, 64n * MIB), pair(MIB / 4n, 2n * MIB)],
  [pair(27n * MIB, 100n * MIB), pair(6n * MIB, 100n * MIB)],
  [pair(38n * MIB, MIB), pair(6n * MIB, MIB)],
];
const withSmallHeap = (wasm) => SIZES.reduce((changed, [from, to]) => withConstant(from, to, changed), wasm);

// What the tools of componentize-js, which are WebAssembly, take of memory at most. It is theirs from the start, and used only
// as far as they need it: their memory would grow page by page, and node look for garbage each time, which took two thirds of a build.
const TOOL_BYTES = 512 * 1024 * 1024;

// Loads modules whose tools have that room.
async function loadTools(...paths) {
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (...args) => {
    const made = await instantiate(...args);
    const { memory, cabi_realloc: realloc } = made.exports ?? {};
    try {
      // Their allocator keeps what it gets back.
      if (memory !== undefined && realloc !== undefined) realloc(realloc(0, 0, 8, TOOL_BYTES), TOOL_BYTES, 8, 8);
    } catch {
      // There is no room: it grows as it did.
    }
    return made;
  };
  try {
    return await Promise.all(paths.map((path) => load(path)));
  } finally {
    WebAssembly.instantiate = instantiate;
  }
}

// The world of an application with these PARTS.
const worldOf = (parts) =>
  [
    'package wasmhost:javascript@0.1.0;',
    'world application {',
    '  include handler;',
    ...[...new Set(parts.flatMap(({ imports }) => imports))].map((name) => `  import ${name};`),
    '}\n',
  ].join('\n');

async function componentize(source, { places, parts }) {
  const [folder] = installed(COMPONENTIZE);
  const [{ splicer }, componentizer] = await loadTools(
    join(folder, 'lib', 'spidermonkey-embedding-splicer.js'),
    join(folder, 'src', 'componentize.js'),
  );
  const bindings = await readFile(join(here, 'bindings.js'), 'utf8');
  // Ours in the place of the generated ones; what the engine is told of imports and exports stays.
  const { spliceBindings } = splicer;
  splicer.spliceBindings = (engine, ...args) => {
    const spliced = spliceBindings.call(splicer, withSmallHeap(engine), ...args);
    const names = spliced.imports.map(([from, name]) => `${from.replace(/@.*/, '')} ${name}`);
    const [[exported]] = spliced.exports;
    spliced.jsBindings = `const names = ${JSON.stringify(names)};\n${bindings.replace('wasmhost:raw', RAW).replace('function exported(', `function ${exported}(`)}`;
    return spliced;
  };
  // Without its name this import is not stubbed. The stub traps, and OpenSSL, which the engine's own crypto.subtle uses, seeds itself
  // with it.
  const { stubWasi } = splicer;
  splicer.stubWasi = (wasm, ...args) =>
    withImport('random_hid', 'random_get', stubWasi.call(splicer, withImport('random_get', 'random_hid', wasm), ...args));
  try {
    // Its own temporary folder goes with ours.
    process.env.TMPDIR = dirname(source);
    await writeFile(join(here, 'wit', 'application.wit'), worldOf(parts));
    const { component } = await componentizer.componentize({
      sourcePath: source,
      witPath: join(here, 'wit'),
      worldName: 'application',
      disableFeatures: ['fetch-event'],
    });
    return component;
  } catch (error) {
    // The engine's words stand between a line about the tool that evaluates the modules and the same again as a rejection.
    const words = places(String(error.message))
      .replace(/^Failed to initialize component .*\n/, '')
      .replace(/^Exception while evaluating top-level script\n/, '')
      .replace(/^Additionally, some promises were rejected[^]*/m, '')
      .trim();
    return fail(
      `the application's modules cannot be evaluated:\n${words}`,
      words.includes(NO_HANDLER)
        ? 'export the handler by default, as in `export default { async fetch(request, env, ctx) { … } }`, or add a listener for "fetch"'
        : /SyntaxError:.*regular expression/.test(words)
          ? 'a class of Unicode (\\p{…}) has to stand in the code by its whole name; docs/JAVASCRIPT.md has a table of what the engine lacks'
          : /SyntaxError:/.test(words)
            ? 'the engine does not take this; docs/JAVASCRIPT.md has a table of what it lacks'
            : 'they run once, while the component is built: what needs a request, the network or a timer belongs into the handler',
    );
  }
}

async function main() {
  const [entry, output, manager, ...flags] = process.argv.slice(2);
  if (manager === undefined) fail('ENTRY, OUTPUT and MANAGER are not named', 'node build.mjs src/index.js app.wasm npm');
  useManager(manager);
  process.stderr.write(await readFile(join(here, 'notes.txt'), 'utf8'));
  if (!existsSync(entry)) fail(`there is no ${entry}`, 'name the module that exports the application by default');
  const work = mkdtempSync(join(tmpdir(), 'wasmhost-js-'));
  const clear = () => rmSync(work, { recursive: true, force: true });
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
      clear();
      process.exit(128 + constants.signals[signal]);
    });
  }
  try {
    const source = join(work, BUNDLE);
    await writeFile(output, await componentize(source, await bundle(entry, source, flags.includes('--profile'))));
  } finally {
    clear();
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(error.message);
  process.exitCode = 1;
}
