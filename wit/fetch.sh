#!/usr/bin/env bash
# Copies the WIT packages of wasi 0.2 from the pinned wasmtime-wasi-http crate into wit/deps, which git ignores.
set -euo pipefail
cd "$(dirname "$0")"
manifest=$(cargo metadata --locked --format-version 1 --manifest-path ../Cargo.toml |
  python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "wasmtime-wasi-http"))')
rm -rf deps
cp -r "$(dirname "$manifest")/wit/deps" deps
echo "wit/deps: $(ls deps | tr '\n' ' ')"
