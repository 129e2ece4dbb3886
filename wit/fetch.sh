#!/usr/bin/env bash
# Copies the WIT packages of wasi 0.2 and 0.3 from the pinned wasmtime-wasi-http crate into wit/deps:
# one file a package and version, such as http-0.2.wit. To be run when wasmtime is raised; `wasmhost build` embeds them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
platform=$(rustc -vV | sed -n 's/^host: //p') # or cargo fetches the crates of all platforms
manifest=$(cargo metadata --locked --format-version 1 --filter-platform "$platform" --manifest-path ../Cargo.toml |
  python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "wasmtime-wasi-http"))')
crate=$(dirname "$manifest")
rm -rf deps
mkdir deps
copy() { # FROM VERSION
  local file
  for file in "$1"/*.wit; do
    cp "$file" "deps/$(basename "$file" .wit)-$2.wit"
  done
}
copy "$crate/wit/deps" 0.2
copy "$crate/src/p3/wit/deps" 0.3
echo "wit/deps: $(ls deps | tr '\n' ' ')"
