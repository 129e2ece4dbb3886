# Builds made.wasm in this folder, with the WIT in `wit`. Needs npm, and wasm-tools in the path.
set -eu
command -v wasm-tools >/dev/null || { echo 'error: wasm-tools is not in the path' >&2; exit 1; }
npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error assemblyscript@0.28.9
npx --no-install asc hello.ts --runtime incremental --use abort= -O -o core.wasm
# A name of the language cannot hold a colon.
wasm-tools print core.wasm | sed 's|(export "handle"|(export "wasi:http/incoming-handler@0.2.12#handle"|' >core.wat
wasm-tools component embed wit --world handler core.wat -o embedded.wasm
wasm-tools component new embedded.wasm -o made.wasm
