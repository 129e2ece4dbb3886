#!/usr/bin/env bash
# Builds js-hello.wasm as componentize-js makes it by itself, on StarlingMonkey's fetch event: guest/js-hello/build.sh OUTPUT
#
# It answers one request an instance, and so tests what becomes of such components; `wasmhost new --lang js` begins one
# whose instances live on.
set -euo pipefail

js_wasi=0.2.10 # what componentize-js exports; it takes the WIT of no other version

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=$(realpath -m "$1")
wit=$here/../../wit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/wit/deps"
cp "$here"/*.js "$here"/package*.json "$work/"
cd "$work"
# No script of a package needs to run, and none does.
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
for file in "$wit"/handler.wit "$wit"/deps/*-0.2.wit; do
  sed "s/0\.2\.12/$js_wasi/" "$file" >"wit/${file#"$wit/"}"
done
npx --no-install esbuild entry.js --bundle --format=esm --target=es2022 --log-level=warning --outfile=bundle.js
npx --no-install componentize-js --wit wit --world-name handler --out "$output" bundle.js
