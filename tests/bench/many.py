"""What the benchmarks of many apps share: distinct components, `wasmhost.toml`, as many services of workerd, and clients that ask
an app by its host name.

Python 3.9's standard library only, on Linux, as harness.py.
"""

import asyncio
import contextlib
import gc
import hashlib
import json
import multiprocessing
import os
import re
import socket
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import harness
from harness import Failed

# The host's admin page is announced before the address that clients use.
LISTENS = "listening on " + harness.ANNOUNCED
WORKERD_LISTENS = r'"socket":"http","port":(?P<port>\d+)'
# Connections that an open loop has at once; a request beyond is not sent, and counts as one without an answer.
CONNECTIONS_MAX = 256
# A client's line for one size of a chunk, or for one header field.
LINE_BYTES_MAX = 1 << 16


@dataclass(frozen=True)
class App:
    """An app of a `wasmhost.toml`, or a service of workerd."""

    name: str
    kind: str
    component: Path
    more: str = ""

    @property
    def host(self):
        return f"{self.name}.test"


# -- components and configurations ------------------------------------------------------------------------------------


def leb128(number):
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def distinct(component, number):
    """The component with a custom section of 64 bytes at its end, which no other number has. The same in every run."""
    name = b"bench"
    body = leb128(len(name)) + name + hashlib.sha512(f"app {number}".encode()).digest()
    return component + b"\0" + leb128(len(body)) + body


def make_apps(folder, counts, components):
    """So many apps of each kind, each with a component of its own in `folder`. What is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    apps = []
    for kind, count in counts.items():
        bytes_of_kind = components[kind].read_bytes()
        for number in range(count):
            name = f"{kind}-{number}"
            file = folder / f"{name}.wasm"
            made = distinct(bytes_of_kind, number)
            if not file.exists() or file.stat().st_size != len(made):
                file.write_bytes(made)
            apps.append(App(name, kind, file))
    return apps


def write_toml(file, apps, host="", routes=lambda app: [app.host]):
    """Puts a `wasmhost.toml` there, whole, also where a host reads it just now. `host` is what stands before the apps."""
    lines = [host]
    for app in apps:
        lines += ["[[app]]", f'name = "{app.name}"', f'component = "{app.component}"', f"routes = {json.dumps(routes(app))}", app.more]
    new = file.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.rename(file)
    return file


def write_workerd(folder, names, module):
    """A configuration of workerd: a service for each name, with a module of its own, behind one that finds it by `Host`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "router.mjs").write_text(
        "export default {\n"
        "  fetch(request, env) {\n"
        "    const name = new URL(request.url).hostname.slice(0, -'.test'.length);\n"
        "    const service = env[name];\n"
        "    return service ? service.fetch(request) : new Response('no such app', { status: 404 });\n"
        "  },\n"
        "};\n"
    )
    services, bindings = [], []
    for number, name in enumerate(names):
        (folder / f"{name}.mjs").write_text(f"// {hashlib.sha512(f'app {number}'.encode()).hexdigest()}\n{module}")
        services.append(f'(name = "{name}", worker = (modules = [(name = "worker", esModule = embed "{name}.mjs")], compatibilityDate = "2026-01-01"))')
        bindings.append(f'(name = "{name}", service = "{name}")')
    file = folder / "config.capnp"
    file.write_text(
        'using Workerd = import "/workerd/workerd.capnp";\n'
        "const config :Workerd.Config = (\n"
        f'  services = [(name = "router", worker = .router), {", ".join(services)}],\n'
        '  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "router")],\n'
        ");\n"
        "const router :Workerd.Worker = (\n"
        '  modules = [(name = "router", esModule = embed "router.mjs")],\n'
        f'  bindings = [{", ".join(bindings)}],\n'
        '  compatibilityDate = "2026-01-01",\n'
        ");\n"
    )
    return file


def status(server):
    """The status page of a host that was started with `--admin 127.0.0.1:0`."""
    found = re.search(r"admin page on (?:http://)?(127\.0\.0\.1:\d+)", server.log.read_text(errors="replace"))
    if not found:
        raise Failed(f"the host has no admin page:\n{harness.tail(server.log)}")
    with urllib.request.urlopen(f"http://{found[1]}/status", timeout=30) as answer:
        return json.load(answer)


def states(server):
    """How many apps are in each state."""
    counts = {}
    for app in status(server)["apps"]:
        counts[app["state"]] = counts.get(app["state"], 0) + 1
    return counts


# -- one request after the other --------------------------------------------------------------------------------------


class Connection:
    """A kept connection that asks one app after the other. Opened again when the server closed it."""

    def __init__(self, server, timeout_s=60):
        self.server, self.timeout_s = server, timeout_s
        self.client, self.reader = None, None

    def get(self, host, path="/"):
        """Status and seconds from the first byte of the request to the last one of the answer. A new connection is no part of it."""
        if self.client is None:
            self.client = socket.create_connection((self.server.host, self.server.port), timeout=self.timeout_s)
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.reader = self.client.makefile("rb")
        began = time.perf_counter()
        try:
            self.client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            status, closes = self.answer()
        except OSError as error:
            self.close()
            raise Failed(f"no answer from {host}{path}: {error}\n{harness.tail(self.server.log)}") from error
        took = time.perf_counter() - began
        if closes:
            self.close()
        return status, took

    def answer(self):
        line = self.line()
        fields = {}
        while field := self.line().strip():
            name, _, value = field.partition(b":")
            fields[name.lower()] = value.strip().lower()
        if fields.get(b"transfer-encoding") == b"chunked":
            while size := int(self.line(), 16):
                self.reader.read(size + 2)
            self.line()
        else:
            self.reader.read(int(fields.get(b"content-length", 0)))
        return int(line.split(b" ")[1]), fields.get(b"connection") == b"close"

    def line(self):
        line = self.reader.readline(LINE_BYTES_MAX)
        if not line:
            raise ConnectionError("the connection was closed")
        return line

    def close(self):
        if self.client is not None:
            self.reader.close()
            self.client.close()
            self.client = None


# -- at a fixed rate --------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """One request of an open loop: what it was, its status (0: none came), and how long it took."""

    what: object
    status: int
    took_ms: float

    @property
    def answered_ms(self):
        """How long its 200 took: without one, for ever."""
        return self.took_ms if self.status == 200 else float("inf")


class OpenLoop:
    """Asks at a fixed rate, whatever comes back. `pick` gives for each number what it is, the host and the path. One request in
    `new_every` has a new connection (0: none), the others have kept ones, of which there are as many as are needed at once."""

    def __init__(self, address, rate, seconds, pick, new_every=0, answer_within_s=10):
        self.address, self.rate, self.seconds, self.pick = address, rate, seconds, pick
        self.new_every, self.answer_within_s = new_every, answer_within_s
        self.idle, self.seen, self.unsent = [], [], 0

    def run(self):
        gc.disable()
        asyncio.run(self.all())
        return self.seen

    async def all(self):
        loop = asyncio.get_running_loop()
        began, tasks = loop.time(), set()
        for number in range(max(int(self.rate * self.seconds), 1)):
            wait = began + number / self.rate - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            elif loop.time() - began > 2 * self.seconds:
                raise Failed(f"the load generator cannot ask {self.rate:.0f} times a second")
            elif number % 16 == 0:
                await asyncio.sleep(0)
            what, host, path = self.pick(number)
            if len(tasks) >= CONNECTIONS_MAX:
                self.seen.append(Seen(what, 0, 0))
                self.unsent += 1
                continue
            is_new = self.new_every and number % self.new_every == 0
            task = loop.create_task(self.one(what, host, path, is_new))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)
        for _, writer in self.idle:
            writer.close()

    async def one(self, what, host, path, is_new):
        began, status, streams = time.perf_counter(), 0, None
        try:
            streams, status, closes = await asyncio.wait_for(self.exchange(host, path, is_new), self.answer_within_s)
        except (OSError, EOFError, ValueError, IndexError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            closes = True
        self.seen.append(Seen(what, status, (time.perf_counter() - began) * 1000))
        if streams is not None:
            if closes or is_new:
                streams[1].close()
            else:
                self.idle.append(streams)

    def kept(self):
        """A connection that is there and that the server has not closed meanwhile."""
        while self.idle:
            streams = self.idle.pop()
            if not streams[0].at_eof():
                return streams
            streams[1].close()
        return None

    async def exchange(self, host, path, is_new):
        streams = None if is_new else self.kept()
        streams = streams or await asyncio.open_connection(*self.address)
        try:
            reader, writer = streams
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            if "transfer-encoding: chunked" in head:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    await reader.readexactly(size + 2)
                await reader.readuntil(b"\r\n")
            else:
                await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0] or 0))
            return streams, int(head.split(" ")[1]), "connection: close" in head
        except BaseException:
            # Also when it has taken too long.
            streams[1].close()
            raise


class Apart:
    """Runs a function in a process of its own, for the time of a block. `first` has it run before all others, so that what it
    measures is the server's time and not the time until it gets a core itself; where that is not allowed it runs as others do."""

    def __init__(self, work, first=False):
        context = multiprocessing.get_context("fork")
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=self.body, args=(work, sender, first), daemon=True)

    @staticmethod
    def body(work, sender, first):
        if first:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        try:
            sender.send((work(), None))
        except Failed as failure:
            sender.send((None, str(failure)))

    def __enter__(self):
        self.process.start()
        return self

    def result(self):
        """What the function gave."""
        try:
            given, failure = self.receiver.recv()
        except EOFError as error:
            raise Failed("a load generator ended without a result") from error
        if failure is not None:
            raise Failed(failure)
        return given

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join(harness.STOP_TIMEOUT_S)


def measured(loop):
    """Runs an open loop in a process that comes first."""
    with Apart(loop.run, first=True) as apart:
        return apart.result()


def can_come_first():
    """Whether `Apart(first=True)` is allowed."""

    def try_it():
        return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO

    with Apart(try_it, first=True) as apart:
        return apart.result()


def percentile(figures, percent):
    """Of the figures, infinity for what never came; none when there are none."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else None


def beside(figure, aim, digits=0):
    """A cell of a table: a figure, and whether it misses its aim."""
    if figure is None:
        return "not measured"
    if figure == float("inf"):
        return "no answer"
    return f"{figure:,.{digits}f}" + (" (missed)" if aim is not None and figure > aim else "")
