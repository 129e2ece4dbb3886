#!/usr/bin/env bash
# Builds the JavaScript guests that tests/packages.rs asks, with `wasmhost build`: each uses packages of npm as applications do.
#
#   guest/packages.sh [OUTPUT_DIR]        OUTPUT_DIR: target/packages of the project, unless given
#
# Needs node, npm, and the program: target/release/wasmhost, or what WASMHOST names. The packages are those of
# javascript/packages/package-lock.json, installed into OUTPUT_DIR.
set -euo pipefail

# shellcheck source=guest/npm.sh
. "$(dirname "${BASH_SOURCE[0]}")/npm.sh"
prepare packages javascript/packages "$@"
# What other tools make of sources, as in a project of theirs.
node svelte.mjs render/src/*.svelte
(cd react-router && npx --no-install react-router build)
for name in pure clients render modules; do
  # What Node.js answers for the same code.
  TZ=UTC node reference.mjs "$name" >"$name.json"
done
for name in pure clients render modules react-router; do
  "$wasmhost" build --no-install "$name" --output "$name.wasm"
done
