#!/usr/bin/env bash
# Builds the ready-made components from source: hello, hello-p3, faults, faults-p3.
#
#   guest/build.sh [--install] [OUTPUT_DIR]      OUTPUT_DIR: this folder, unless given
#
# With the target wasm32-wasip2 installed (`rustup target add wasm32-wasip2`) cargo and rustc do it as they are.
# Without it, std is built from Debian's source by Debian's compiler of the same version, and linked by rustup's
# linkers; --install (or CI=true) fetches those packages by apt-get where they are missing.
set -euo pipefail

target=wasm32-wasip2
packages=(rustc-web rust-web-src wasi-libc)
size_max_bytes=320000

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

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

# Whether this rustc ($1) has a std for the target.
has_std() {
  compgen -G "$("$1" --print target-libdir --target "$target" 2>/dev/null)/libstd-*.rlib" >/dev/null
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' || echo "$package"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  local missing
  command -v apt-get >/dev/null ||
    fail "no std for $target, and no apt-get to build one with" "rustup target add $target"
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -eq 0 ] && return
  [ "$install" = true ] || fail "no std for $target, nor its source: ${missing[*]}" \
    "rustup target add $target, or run this with --install, or: apt-get install -y --no-install-recommends ${missing[*]}"
  as_root apt-get update -q
  as_root apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# Makes cargo build std itself. The variables stay in this process: a host program built with this RUSTC would be wrong.
use_debian_std() {
  local rustc=/usr/bin/rustc host linkers libc=/usr/lib/wasm32-wasi self_contained
  install_packages
  host=$(rustc -vV | sed -n 's/^host: //p')
  linkers=$(rustc --print sysroot)/lib/rustlib/$host/bin
  [ -x "$linkers/wasm-component-ld" ] || fail "rustc brings no wasm-component-ld in $linkers" "use a rustc from rustup"
  # Where this rustc looks for the libc and the start objects.
  self_contained=$("$rustc" --print sysroot)/lib/rustlib/$target/lib/self-contained
  if ! [ -e "$self_contained/libc.a" ]; then
    as_root mkdir -p "$self_contained"
    as_root ln -sf "$libc/libc.a" "$libc/crt1-command.o" "$libc/crt1-reactor.o" "$self_contained/"
  fi
  export RUSTC=$rustc RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_abort
  export PATH=$linkers:$linkers/gcc-ld:$PATH
}

unset RUSTC RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER
rustc=rustc
if ! has_std rustc; then
  use_debian_std
  rustc=$RUSTC
fi

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
