"""What the benchmarks share: building, starting servers on free loopback ports, driving wrk, reading /proc.

Python 3.9's standard library only, on Linux. Every process started here is ended here, by its own id.
"""

import argparse
import contextlib
import datetime
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
GUEST = ROOT / "guest"

# Long, for a first start compiles the component, which on a busy machine takes a minute for JavaScript and Python.
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 5
BUILD_TIMEOUT_S = 3600
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


# What a server says when it listens.
ANNOUNCED = r"http://(?P<host>127\.0\.0\.1):(?P<port>\d+)"


class Failed(Exception):
    """Something that ends a benchmark, told without a stack trace."""


def stamp(profile, rounds, seconds, wasmhost=None):
    """When, of what, and how something is measured."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    # Of which commit another program is, nobody knows.
    what = f"`{wasmhost}`" if wasmhost else f"commit {done.stdout.strip()}, `{profile}` build"
    return f"{datetime.date.today().isoformat()}, {what}, load before {os.getloadavg()[0]:.1f}; {rounds} rounds of {seconds} s in turn, medians."


def end_on_signals():
    """Makes SIGTERM and SIGHUP end the script as Ctrl-C does, so that what it started is ended too."""

    def end(number, _frame):
        raise SystemExit(128 + number)

    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, end)


def offer_smoke(parser):
    parser.add_argument("--smoke", action="store_true", help="a second of everything, to see that the script works; its figures mean nothing")


def target_folder():
    """Where cargo puts what it builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def peer(name):
    """The program of a peer: by a variable of its name, in the path, or where `tests/bench/peers` has put it; none if nowhere."""
    folder = target_folder() / "peers"
    places = [os.environ.get(name.upper()), shutil.which(name), folder / "bin" / name, folder / "node_modules" / ".bin" / name]
    return next((str(place) for place in places if place and Path(place).exists()), None)


def version(*command):
    """The first line that a program tells of its version."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=30)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def require_wrk():
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Failed("wrk is not installed\nhint: apt-get install wrk, or build it from https://github.com/wg/wrk")
    return wrk


def build(profile, build_it=True, wasmhost=None):
    """Builds the binary and the plain-hyper example in one profile, and gives the paths of both; `wasmhost` is taken in the
    place of the one that was built."""
    if build_it:
        command = ["cargo", "build", "--profile", profile, "--bin", "wasmhost", "--example", "plain_hyper"]
        print("building:", " ".join(command), file=sys.stderr)
        done = subprocess.run(command, cwd=ROOT, timeout=BUILD_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise Failed("the build failed")
    folder = target_folder() / {"dev": "debug"}.get(profile, profile)
    binaries = (wasmhost or folder / "wasmhost", folder / "examples" / "plain_hyper")
    for binary in binaries:
        if not binary.exists():
            raise Failed(f"{binary} does not exist\nhint: run without --no-build")
    return binaries


def environment(scratch, **more):
    """The environment without what would change a server: back-traces slow `wasmtime serve` down by 10 to 20 %."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WASMHOST_", "RUST_", "NODE_"))}
    # Servers that cache compiled code do it here, and not in the user's home. Rows whose workers are processes say so by a flag; by
    # default, fresh instances would have processes everywhere.
    return {**kept, "XDG_CACHE_HOME": str(scratch), "WASMHOST_WORKER_KIND": "thread", **more}


@dataclass
class Running:
    """A server that listens."""

    process: subprocess.Popen
    host: str
    port: int
    log: Path
    # Seconds until it said so, seen once in a millisecond, after half a second once in ten.
    start_s: float

    @property
    def pid(self):
        return self.process.pid

    def url(self, path):
        return f"http://{self.host}:{self.port}{path}"

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failed(f"the server ended with {self.process.returncode}:\n{tail(self.log)}")


def tail(log, size=2000):
    return log.read_text(errors="replace")[-size:]


def on_cores(cores):
    """What a child process does before it starts, to stay on these CPU cores; none for all."""
    return (lambda: os.sched_setaffinity(0, cores)) if cores else None


@contextlib.contextmanager
def running(argv, scratch, announced=ANNOUNCED, env=None, cwd=None, before_exec=None, port=None):
    """Starts a server, waits until it says where it listens (that it does, on the port that is known), and ends it afterwards."""
    handle, name = tempfile.mkstemp(suffix=".log", dir=scratch)
    log = Path(name)
    began = time.monotonic()
    with os.fdopen(handle, "wb") as out:
        process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env or environment(scratch), cwd=cwd, preexec_fn=before_exec
        )
    try:
        deadline = began + START_TIMEOUT_S
        while not (found := re.search(announced, log.read_text(errors="replace"))):
            if process.poll() is not None:
                raise Failed(f"{' '.join(map(str, argv))}\nended with {process.returncode}:\n{tail(log)}")
            if (now := time.monotonic()) > deadline:
                raise Failed(f"{' '.join(map(str, argv))}\ndid not listen in {START_TIMEOUT_S} s:\n{tail(log)}")
            time.sleep(0.001 if now < began + 0.5 else 0.01)
        yield Running(process, found.groupdict().get("host", "127.0.0.1"), port or int(found["port"]), log, time.monotonic() - began)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.unlink(missing_ok=True)


def ask(server, path, timeout=10, host=None):
    """One GET over a connection of its own, to the app of that host if one is named; gives the status."""
    with socket.create_connection((server.host, server.port), timeout=timeout) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host or server.host}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n" not in head:
            part = client.recv(4096)
            if not part:
                raise Failed(f"no answer to GET {path}")
            head += part
    return int(head.split(b" ", 2)[1])


# -- tables in Markdown -----------------------------------------------------------------------------------------------


def section(text, title):
    """What stands below the heading that begins with `### TITLE`, until the next heading."""
    _, found, rest = text.partition(f"### {title}")
    return rest.partition("\n###")[0] if found else ""


def parsed(table):
    """The heads of a table and its rows by their first cell, each a list of cells."""
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
    return (lines[0], {line[0]: line for line in lines[1:]}) if lines else ([], {})


# -- shapes of load ---------------------------------------------------------------------------------------------------

SHAPES = {
    "t1": "wrk with one thread, on the server's cores",
    "t2": "wrk with two threads, on the server's cores",
    "pinned": "the server on one half of the cores with a worker on each, wrk on the other half with a thread on each",
}


@dataclass(frozen=True)
class Shape:
    """How the load is put on: threads of wrk, workers of the server, and the cores on which each stays (none: all)."""

    name: str
    threads: int
    workers: int
    server_cores: tuple = None
    load_cores: tuple = None


def shape(name, workers=None):
    """The shape of this name on this machine, for a server with so many workers (not counted where the cores decide)."""
    cores = sorted(os.sched_getaffinity(0))
    if name != "pinned":
        return Shape(name, {"t1": 1, "t2": 2}[name], workers or len(cores))
    half = len(cores) // 2
    if not half:
        raise Failed("the shape `pinned` needs two CPU cores, this machine offers one\nhint: --shape t1")
    return Shape(name, len(cores) - half, half, tuple(cores[:half]), tuple(cores[half:]))


def shape_names(text):
    """The names in a list such as `t1,pinned`, as the type of an argument."""
    names = list(SHAPES) if text == "all" else text.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no shape of load: one or more of {','.join(SHAPES)}, or all")
    return names


def offer_shapes(parser, default):
    """None are chosen where the flag is not given, so that a script can take others than the default."""
    told = "; ".join(f"{name}: {meaning}" for name, meaning in SHAPES.items())
    parser.add_argument("--shape", type=shape_names, metavar="NAMES", help=f"shapes of the load, with commas between ({told}), or all [default: {default}]")

# -- /proc ------------------------------------------------------------------------------------------------------------


def family(pid):
    """A process and its descendants."""
    pids = [pid]
    for parent in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
    return pids


def worker_pids(pid):
    """The processes that serve: of wasmhost those that its spawner has started as workers, of others all children."""
    members = family(pid)[1:]
    words = {}
    for member in members:
        with contextlib.suppress(OSError):
            words[member] = Path(f"/proc/{member}/cmdline").read_bytes().split(b"\0")[1:2]
    if [b"spawner"] in words.values():
        return [member for member in members if words.get(member) == [b"worker"]]
    return members


def cpu_seconds(pid):
    """User and system time of a process, all its threads and descendants, so far."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            ticks += stat_ticks(Path(f"/proc/{member}/stat"))
    return ticks / TICKS_PER_S


def thread_cpu_seconds(pid):
    """The same of each thread of one process."""
    return {task.name: stat_ticks(task / "stat") / TICKS_PER_S for task in Path(f"/proc/{pid}/task").iterdir()}


def preemptions(pid):
    """How often the kernel has taken the CPU from a thread of a process and its descendants that wanted to go on."""
    count = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                found = re.search(r"^nonvoluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
                count += int(found[1]) if found else 0
    return count


def stat_ticks(stat):
    # The second field is a name in parentheses, which may hold spaces; utime and stime are fields 14 and 15.
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory_mb(pid, field):
    """`VmRSS` (resident now) or `VmHWM` (the most so far) of a process and its descendants, in MB of 1,000,000 bytes."""
    kib = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{member}/status").read_text()
            if found := re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE):
                kib += int(found[1])
    return kib * 1024 / 1e6


def proportional_mb(pid):
    """Resident memory of a process and its descendants; of what several processes share, each has its part (`Pss`)."""
    kib = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{member}/smaps_rollup").read_text(), re.MULTILINE)
            kib += int(found[1]) if found else 0
    return kib * 1024 / 1e6


# -- wrk --------------------------------------------------------------------------------------------------------------

UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass
class Load:
    """What wrk saw."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    output: str


def wrk(url, connections, seconds, threads=1, headers=(), script=None, arguments=(), cores=None):
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for header in headers:
        command += ["-H", header]
    if script is not None:
        command += ["-s", str(script)]
    try:
        done = subprocess.run(
            [*command, url, *(["--", *map(str, arguments)] if arguments else [])], capture_output=True, text=True, timeout=seconds + 60, check=False, preexec_fn=on_cores(cores)
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"wrk did not end: {' '.join(command)} {url}") from error
    output = done.stdout
    if done.returncode != 0:
        raise Failed(f"wrk failed: {output}{done.stderr}")

    def milliseconds(percentile):
        found = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)\s*$", output, re.MULTILINE)
        if not found:
            raise Failed(f"wrk said something else:\n{output}")
        return float(found[1]) * UNITS_MS[found[2]]

    counted = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not counted or not rate:
        raise Failed(f"wrk said something else:\n{output}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Load(int(counted[1]), float(rate[1]), milliseconds(50), milliseconds(99), errors, output)
