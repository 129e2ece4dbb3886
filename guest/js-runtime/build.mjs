// Makes a component of an application: node build.mjs ENTRY OUTPUT
//
// ENTRY exports the application by default, or adds a listener for `fetch`. esbuild and componentize-js are taken from
// the node_modules of the present folder or of one above it.

import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
// The version whose engine `bindings.js` fits.
const VERSION = '0.23.0';

// What went wrong, for the user.
class Failure extends Error {}

function fail(reason, hint) {
  throw new Failure(`error: ${reason}\nhint: ${hint}\n`);
}

// The folder of an installed package.
function installed(name) {
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    const found = join(folder, 'node_modules', name);
    if (existsSync(join(found, 'package.json'))) return found;
    if (folder === dirname(folder)) {
      fail(`${name} is not installed here`, 'npm install, or npm install --save-dev ' + name);
    }
  }
}
const load = (...path) => import(pathToFileURL(join(...path)));

// The application and the runtime in one file.
async function bundle(entry, output) {
  const { default: esbuild } = await load(installed('esbuild'), 'lib', 'main.js');
  try {
    await esbuild.build({
      entryPoints: [join(here, 'src', 'entry.js')],
      alias: { 'wasmhost:app': resolve(entry) },
      external: ['wasmhost:raw'],
      bundle: true,
      format: 'esm',
      target: 'es2022',
      platform: 'neutral',
      mainFields: ['module', 'browser', 'main'],
      conditions: ['worker', 'browser', 'import', 'module'],
      define: { 'process.env.NODE_ENV': '"production"' },
      logLevel: 'warning',
      // An application that listens for `fetch` has no default export.
      logOverride: { 'import-is-undefined': 'silent' },
      outfile: output,
    });
  } catch {
    // esbuild has told what is wrong, with the place.
    throw new Failure('');
  }
}

async function componentize(source) {
  const folder = installed('@bytecodealliance/componentize-js');
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  if (version !== VERSION) {
    const name = '@bytecodealliance/componentize-js';
    fail(`${name} is of version ${version}, and ${VERSION} is wanted`, `npm install --save-dev --save-exact ${name}@${VERSION}`);
  }
  const { splicer } = await load(folder, 'lib', 'spidermonkey-embedding-splicer.js');
  const componentizer = await load(folder, 'src', 'componentize.js');
  const bindings = await readFile(join(here, 'bindings.js'), 'utf8');
  // Ours in the place of the generated ones; what the engine is told of imports and exports stays.
  const { spliceBindings } = splicer;
  splicer.spliceBindings = (...args) => {
    const spliced = spliceBindings.apply(splicer, args);
    const names = spliced.imports.map(([from, name]) => `${from.replace(/@.*/, '')} ${name}`);
    const [[exported]] = spliced.exports;
    spliced.jsBindings = `const names = ${JSON.stringify(names)};\n${bindings.replace('function exported(', `function ${exported}(`)}`;
    return spliced;
  };
  try {
    const { component } = await componentizer.componentize({
      sourcePath: source,
      witPath: join(here, 'wit'),
      worldName: 'handler',
      disableFeatures: ['fetch-event'],
    });
    return component;
  } catch (error) {
    // The engine's words stand between a line about the tool that evaluates the modules and the same again as a rejection.
    const words = String(error.message)
      .replace(/^Failed to initialize component .*\n/, '')
      .replace(/^Exception while evaluating top-level script\n/, '')
      .replace(/^Additionally, some promises were rejected[^]*/m, '')
      .trim();
    return fail(
      `the application's modules cannot be evaluated:\n${words}`,
      'they run once, while the component is built: what needs a request, the network or a timer belongs into the handler',
    );
  }
}

async function main() {
  const [entry, output] = process.argv.slice(2);
  if (output === undefined) fail('ENTRY and OUTPUT are not named', 'node build.mjs src/index.js app.wasm');
  if (!existsSync(entry)) fail(`there is no ${entry}`, 'name the module that exports the application by default');
  const work = await mkdtemp(join(tmpdir(), 'wasmhost-js-'));
  try {
    const source = join(work, 'app.js');
    await bundle(entry, source);
    await writeFile(output, await componentize(source));
  } finally {
    await rm(work, { recursive: true });
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(error.message);
  process.exitCode = 1;
}
