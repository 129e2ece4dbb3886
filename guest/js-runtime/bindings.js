// Runs in a realm of its own before the application: gives it the host's functions as they are, and takes its handler.
// In the place of what componentize-js generates; `build.mjs` prepends `const names`, the imports in their order.
{
  const [memory, realloc, dealloc, ...functions] = $bindings;
  delete globalThis.$bindings;
  const imports = {};
  functions.forEach((fn, index) => {
    imports[names[index]] = fn;
  });
  defineBuiltinModule('wasmhost:raw', { memory, realloc, dealloc, imports });
}

let handle;
const done = Promise.resolve();

function bindExports() {
  handle = $source_mod.handle;
}

// The engine runs its loop until the promise is settled.
function exported(request, outparam) {
  return handle(request, outparam) ?? done;
}
