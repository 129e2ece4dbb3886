#!/usr/bin/env bash
# Builds the ready-made components from source: hello, hello-p3, faults, faults-p3.
#
#   guest/build.sh [--install] [OUTPUT_DIR]      OUTPUT_DIR: this folder, unless given
#
# With the target wasm32-wasip2 installed (`rustup target add wasm32-wasip2`) cargo and rustc do it as they are.
# Without it, std is built from Debian's source by Debian's compiler of the same version, and linked by rustup's
# linkers; --install (or CI=true) fetches those packages by apt-get where they are missing.
set -euo pipefail

size_max_bytes=300000

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
install=${CI:-false}
output=$here
for argument in "$@"; do
  case $argument in
    --install) install=true ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "error: unknown flag $argument" >&2; exit 2 ;;
    *) output=$argument ;;
  esac
done

. "$here/rust-std.sh"
use_std

# No path of this machine in the components: the same source gives the same bytes in any folder.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
std_source=$("$rustc" --print sysroot)/lib/rustlib/src/rust
export CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS="\
--remap-path-prefix=$here=/guest \
--remap-path-prefix=$cargo_home/registry/src=/crates \
--remap-path-prefix=$std_source=/rust"

target_dir=${CARGO_TARGET_DIR:-$here/target}
cargo build --manifest-path "$here/Cargo.toml" --target-dir "$target_dir" --release --locked --target "$target"

mkdir -p "$output"
for name in hello hello-p3 faults faults-p3; do
  built=$target_dir/$target/release/${name//-/_}.wasm
  size=$(wc -c <"$built")
  [ "$size" -le "$size_max_bytes" ] || fail "$name.wasm has $size bytes, more than $size_max_bytes" "look for a needless dependency"
  cp "$built" "$output/$name.wasm"
  echo "$output/$name.wasm: $size bytes"
done
