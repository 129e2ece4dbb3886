#!/usr/bin/env bash
# Builds the JavaScript guests that tests/packages.rs asks, with `wasmhost build`: each uses packages of npm as applications do.
#
#   guest/packages.sh [OUTPUT_DIR]        OUTPUT_DIR: target/packages of the project, unless given
#
# Needs node, npm, and the program: target/release/wasmhost, or what WASMHOST names. The packages are those of
# javascript/packages/package-lock.json, installed into OUTPUT_DIR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=${1:-$(dirname "$here")/target/packages}
wasmhost=$(realpath -m "${WASMHOST:-$(dirname "$here")/target/release/wasmhost}")
case $output in
  -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  -*) echo "error: unknown flag $output" >&2; exit 2 ;;
esac
for command in node npm; do
  command -v "$command" >/dev/null || {
    printf 'error: no %s on this machine\nhint: apt-get install -y --no-install-recommends nodejs npm\n' "$command" >&2
    exit 1
  }
done
[ -x "$wasmhost" ] || {
  printf 'error: no program %s\nhint: cargo build --release\n' "$wasmhost" >&2
  exit 1
}

mkdir -p "$output"
cp -r "$here"/javascript/packages/. "$output/"
cd "$output"
if ! cmp -s package-lock.json node_modules/installed.json; then
  # No script of a package needs to run, and none does.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/installed.json
fi
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
