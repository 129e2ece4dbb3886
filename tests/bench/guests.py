"""Plain components for the benchmarks: what toolchains leave, beside the tuned ones of `guest/*.wasm`.

They are built when a benchmark asks for them, and kept in `bench-guests` of the target folder, for the program and the
sources that they were built with. `WASMHOST_TEST_TOOLCHAINS` names a folder that `guest/toolchains.sh` has filled; without it,
what is in the path builds them. What cannot be built is left out, with the reason.

Python 3.9's standard library only, on Linux.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import harness
from harness import BENCH, GUEST, Failed

BUILD_TIMEOUT_S = 1800
# What was built for programs of the past is deleted after that time.
KEPT_S = 2 * 24 * 3600


@dataclass(frozen=True)
class Guest:
    """A component: its title in tables, its version of WASI, and where it comes from."""

    title: str
    wasi: str
    # The language of `wasmhost new`, or else the folder of sources below `tests/bench/guests`.
    new: str = None
    # Whether cargo builds it.
    rust: bool = False


GUESTS = {
    "rust": Guest("wit-bindgen", "0.2", rust=True),
    "wstd": Guest("wstd", "0.2", new="rust", rust=True),
    "http-compat": Guest("http_compat", "0.3", new="rust", rust=True),
    "javascript": Guest("JavaScript", "0.2", new="js"),
    "hono": Guest("Hono, three middlewares", "0.2"),
    "python": Guest("Python", "0.2", new="python"),
    "python-p3": Guest("Python 0.3", "0.3", new="python"),
    "go": Guest("Go", "0.2", new="go"),
    "c": Guest("C", "0.2", new="c"),
    "zig": Guest("Zig", "0.2", new="zig"),
    "assemblyscript": Guest("AssemblyScript", "0.2"),
}


def names(text):
    """The names in a list such as `rust,go`, as the type of an argument."""
    found = list(GUESTS) if text == "all" else text.split(",")
    if unknown := [name for name in found if name not in GUESTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no guest: one or more of {','.join(GUESTS)}, or all")
    return found


def offer_guests(parser, choose=True):
    if choose:
        parser.add_argument("--guest", type=names, default=[], metavar="NAMES", help=f"plain components beside the tuned ones, with commas between ({', '.join(GUESTS)}), or all; built unless they are there [default: none]")
    parser.add_argument("--guests-from", type=Path, metavar="FOLDER", help="take the plain components from there, NAME.wasm, and build none")


def ready(names, wasmhost, folder=None):
    """The files of these guests by name, and of those that are left out the reason by name. Builds what is not there, unless a
    folder of ready ones is given."""
    files, left_out = {}, {}
    for name in names:
        try:
            files[name] = Path(folder) / f"{name}.wasm" if folder else built(name, Path(wasmhost))
            if not files[name].exists():
                raise Failed(f"{files[name]} does not exist")
        except (Failed, OSError, subprocess.TimeoutExpired) as error:
            files.pop(name, None)
            left_out[name] = str(error).strip() or type(error).__name__
            print(f"left out: {GUESTS[name].title}: {left_out[name]}", file=sys.stderr)
    return files, left_out


def told(left_out):
    """The sentence below a table about what it lacks, or nothing."""
    return f"Left out: {', '.join(f'{GUESTS[name].title} ({reason.splitlines()[0]})' for name, reason in left_out.items())}." if left_out else ""


def built(name, wasmhost):
    """The component's file, which is built unless it is there."""
    kept = harness.target_folder().resolve() / "bench-guests"
    kept.mkdir(parents=True, exist_ok=True)
    file = kept / f"{name}-{key(name, wasmhost)}.wasm"
    if not file.exists():
        for old in kept.glob("*.wasm"):
            if time.time() - old.stat().st_mtime > KEPT_S:
                old.unlink(missing_ok=True)
        print(f"building the guest {name}", file=sys.stderr, flush=True)
        # Outside of the target folder, or cargo would take a project for a part of the repository's.
        with tempfile.TemporaryDirectory(prefix="wasmhost-guest-") as scratch:
            new = file.with_suffix(f".{os.getpid()}")
            shutil.copyfile(make(name, wasmhost, Path(scratch)), new)
            new.replace(file)
    os.utime(file)
    return file


def key(name, wasmhost):
    """What it is built with, as a short digest."""
    digest = hashlib.sha256(wasmhost.read_bytes())
    if not GUESTS[name].new:
        for source in sorted(path for path in (BENCH / "guests" / name).rglob("*") if path.is_file()):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def make(name, wasmhost, scratch):
    """Builds it in `scratch`, and gives its file there."""
    guest, env = GUESTS[name], variables()
    folder = scratch / "hello"
    if guest.new:
        run([wasmhost, "new", "hello", "--lang", guest.new, "--wasi", guest.wasi], scratch, env)
        run([*(WITH_STD if guest.rust else []), wasmhost, "build"], folder, env)
        return folder / "hello.wasm"
    shutil.copytree(BENCH / "guests" / name, folder)
    if guest.rust:
        run([*WITH_STD, "cargo", "build", "--release", "--locked", "--target", "wasm32-wasip2"], folder, env)
        return Path(env["CARGO_TARGET_DIR"]) / "wasm32-wasip2" / "release" / "hello_plain.wasm"
    made = folder / "made.wasm"
    if (folder / "package.json").exists():
        run([wasmhost, "build", "--output", made], folder, env)
        return made
    run([wasmhost, "wit", "wit"], folder, env)
    run(["sh", "build.sh"], folder, env)
    return made


# A command with a std of wasm32-wasip2, as `guest/rust-std.sh` finds or builds it.
WITH_STD = ["bash", "-euc", f'install=${{CI:-false}}; . "{GUEST}/rust-std.sh"; use_std; exec "$@"', "with-std"]


def variables():
    """The environment of the toolchains."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WASMHOST_", "RUST_"))}
    # One build of std for all.
    env["CARGO_TARGET_DIR"] = str(harness.target_folder().resolve() / "bench-guests" / "cargo")
    if folder := os.environ.get("WASMHOST_TEST_TOOLCHAINS"):
        lines = (Path(folder) / "environment").read_text().splitlines()
        env.update(line.split("=", 1) for line in lines if "=" in line)
    return env


def run(command, cwd, env):
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed("\n".join([next((line for line in said if "error" in line.lower()), said[-1] if said else f"{words[0]} ended with {done.returncode}"), *said[-20:]]))
