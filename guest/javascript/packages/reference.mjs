// Asks an application in Node.js, and prints what it answers: { route: answer }.
//
//   node reference.mjs APPLICATION > answers.json

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

// For packages that ask for what is granted, and for modules of the older kind within one bundle.
process.env.WORD = 'granted';
const banner = { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" };

async function answersOf(name, env) {
  // Below the packages, which some modules look for when they run.
  const folder = mkdtempSync(join(import.meta.dirname, 'reference-'));
  try {
    const outfile = join(folder, 'bundle.mjs');
    await build({
      entryPoints: [join(import.meta.dirname, name, 'src', 'index.js')],
      bundle: true,
      platform: 'node',
      format: 'esm',
      banner,
      outfile,
      logLevel: 'error',
    });
    const { default: app } = await import(pathToFileURL(outfile));
    const ask = (path) => app.fetch(new Request(`http://test.example/${path}`), { WORD: 'granted', ...env });
    const answers = {};
    for (const route of await (await ask('')).json()) {
      answers[route] = await (await ask(encodeURIComponent(route))).json();
    }
    return answers;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const service = spawn('node', [join(import.meta.dirname, 'service.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
try {
  const address = await new Promise((resolve) => service.stdout.once('data', (data) => resolve(`${data}`.trim())));
  const answers = await answersOf(process.argv[2], { SERVICE: address });
  process.stdout.write(`${JSON.stringify(answers, null, 1)}\n`);
} finally {
  service.kill();
}
