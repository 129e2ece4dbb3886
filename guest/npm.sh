# Read by javascript.sh and packages.sh, which build JavaScript guests: `prepare NAME FOLDER "$@"` takes the script's argument, or
# target/NAME of the project, as the folder `output`, puts there what FOLDER has, installs its packages, and goes there. `wasmhost`
# is the program.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wasmhost=$(realpath -m "${WASMHOST:-$(dirname "$here")/target/release/wasmhost}")

prepare() { # NAME FOLDER [OUTPUT_DIR]
  local output=${3:-$(dirname "$here")/target/$1} command
  case $output in
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
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
  cp -r "$here/$2/." "$output/"
  cd "$output"
  if ! cmp -s package-lock.json node_modules/installed.json; then
    local began=$SECONDS
    # No script of a package needs to run, and none does.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/installed.json
    echo "packages: $((SECONDS - began)) s"
  fi
}
