#!/usr/bin/env bash
# Builds the JavaScript guests that tests/javascript*.rs ask, with `wasmhost build`: conformance, hono, itty, links, workers.
#
#   guest/javascript.sh [OUTPUT_DIR]        OUTPUT_DIR: target/javascript of the project, unless given
#
# Needs node, npm, and the program: target/release/wasmhost, or what WASMHOST names. The packages are those of
# javascript/package-lock.json, installed into OUTPUT_DIR.
set -euo pipefail

# shellcheck source=guest/npm.sh
. "$(dirname "${BASH_SOURCE[0]}")/npm.sh"
prepare javascript javascript "$@"
for name in conformance hono itty links workers; do
  "$wasmhost" build --no-install "$name" --output "$name.wasm"
done
