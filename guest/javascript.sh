#!/usr/bin/env bash
# Builds the JavaScript guests that tests/javascript.rs asks, with `wasmhost build`: conformance, hono, itty.
#
#   guest/javascript.sh [OUTPUT_DIR]        OUTPUT_DIR: target/javascript of the project, unless given
#
# Needs node, npm, and the program: target/release/wasmhost, or what WASMHOST names. The packages are those of
# javascript/package-lock.json, installed into OUTPUT_DIR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=${1:-$(dirname "$here")/target/javascript}
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
cp -r "$here"/javascript/. "$output/"
cd "$output"
if ! cmp -s package-lock.json node_modules/installed.json; then
  began=$SECONDS
  # No script of a package needs to run, and none does.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/installed.json
  echo "packages: $((SECONDS - began)) s"
fi
for name in conformance hono itty; do
  "$wasmhost" build --no-install "$name" --output "$name.wasm"
done
