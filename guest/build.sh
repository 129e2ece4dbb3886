#!/usr/bin/env bash
# Builds the ready-made components from source: hello, hello-p3, faults, faults-p3, grpc, grpc-p3, stores, stores-p3, and the native parts of JavaScript.
#
#   guest/build.sh [--install] [OUTPUT_DIR]      OUTPUT_DIR: this folder, unless given
#
# With the target wasm32-wasip2 installed (`rustup target add wasm32-wasip2`) cargo and rustc do it as they are.
# Without it, std is built from Debian's source by Debian's compiler of the same version, and linked by rustup's
# linkers; --install (or CI=true) fetches those packages by apt-get where they are missing. python3 takes out what is not needed.
set -euo pipefail

size_max_bytes=300000
# It holds five families of algorithms, and goes into those applications only that use them.
native_size_max_bytes=600000
# It goes into every application.
http_size_max_bytes=60000
# Two thirds of it are the dictionary of the format, and tables for it.
brotli_size_max_bytes=1100000

# The native parts of JavaScript.
parts=(js-http js-native js-deflate js-brotli)

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
build() { cargo build --manifest-path "$here/Cargo.toml" --target-dir "$target_dir" --release --locked --target "$target" "$@"; }
# The build script of js-http asks cargo about all crates of the workspace, without the network.
cargo fetch --quiet --manifest-path "$here/Cargo.toml" --locked --target "$target"
build --workspace --exclude js-part "${parts[@]/#/--exclude=}"
# Each alone: together with the others their crates would get features that need std.
for part in "${parts[@]}"; do build --package "$part"; done

# Copies a component without its section of names, which the linker writes and nothing reads: it tells no function of a trap.
without_names() { # FROM TO
  python3 - "$1" "$2" <<'PYTHON'
import sys

data = open(sys.argv[1], "rb").read()


def number(at):
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


kept, at = bytearray(data[:8]), 8
while at < len(data):
    size, begin = number(at + 1)
    length, name = number(begin)
    is_names = data[at] == 0 and data[name : name + length] == b"component-name"
    if not is_names:
        kept += data[at : begin + size]
    at = begin + size
open(sys.argv[2], "wb").write(kept)
PYTHON
}

mkdir -p "$output"
for name in hello hello-p3 faults faults-p3 grpc grpc-p3 stores stores-p3 "${parts[@]}"; do
  built=$target_dir/$target/release/${name//-/_}.wasm
  without_names "$built" "$output/$name.wasm"
  size=$(wc -c <"$output/$name.wasm")
  case $name in
    js-native) max=$native_size_max_bytes ;;
    js-http) max=$http_size_max_bytes ;;
    js-brotli) max=$brotli_size_max_bytes ;;
    *) max=$size_max_bytes ;;
  esac
  [ "$size" -le "$max" ] || fail "$name.wasm has $size bytes, more than $max" "look for a needless dependency"
  echo "$output/$name.wasm: $size bytes"
done
