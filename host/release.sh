#!/usr/bin/env bash
# Builds the fastest wasmhost: the `dist` profile (thin LTO, one codegen unit), trained on requests (PGO).
# usage: host/release.sh          needs llvm-profdata of rustc's LLVM (Debian: llvm-22), wrk, Python 3. Twice a `dist` build.
# The result is target/pgo/HOST/dist/wasmhost, HOST as in `rustc -vV`.
set -euo pipefail
cd "$(dirname "$0")/.."

llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=
for candidate in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "llvm-profdata-$llvm" "/usr/lib/llvm-$llvm/bin/llvm-profdata"; do
  if command -v "$candidate" >/dev/null; then profdata=$candidate; break; fi
done
if [[ -z $profdata ]]; then
  echo "error: llvm-profdata of LLVM $llvm is not installed" >&2
  echo "hint: rustup component add llvm-tools, or apt-get install llvm-$llvm" >&2
  exit 1
fi

profiles=$PWD/target/pgo/profiles
rm -rf "$profiles" && mkdir -p "$profiles"
# A target is named so that the flags do not reach build scripts and macros.
build() { # FLAGS FOLDER
  RUSTFLAGS=$1 CARGO_TARGET_DIR=$2 cargo build --profile dist --locked --bin wasmhost --target "$host"
}

build "-Cprofile-generate=$profiles" target/pgo/trained
tests/bench/train "target/pgo/trained/$host/dist/wasmhost"
"$profdata" merge -o "$profiles/merged.profdata" "$profiles"
build "-Cprofile-use=$profiles/merged.profdata" target/pgo
ls -l "target/pgo/$host/dist/wasmhost"
