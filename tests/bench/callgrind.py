"""Instructions of a request, of the whole program, counted by valgrind: other load on the machine does not matter.

A server runs under valgrind (--tool=callgrind) and is asked over one connection, a few times and many times; the difference
is what the requests took. System calls count as nothing.

Valgrind 3.19 lacks two things. It cannot start `/proc/self/exe`, by which wasmhost starts its spawner: a copy of the program
starts it by another path, outside valgrind; only a child that compiles runs in valgrind again. And it does not hide the vDSO
where prctl(2) tells of it (PR_GET_AUXV), so that call is refused.

Python 3.9's standard library only, on Linux.
"""

import ctypes
import platform
import re
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

import harness
from harness import Failed

OWN_PROGRAM = b"/proc/self/exe"
# What wasmhost sets for a child that compiles.
COMPILING_CHILD = "WASMHOST_COMPILE_CHILD"
# Of the same length, relative to the server's working directory.
OTHER_PATH = b"./the-wasmhost"
FEW = 1_000
STARTS_WITHIN_S = 120
COMPILES_WITHIN_S = 300
# Valgrind takes minutes to compile a larger component.
COMPONENT_BYTES_MAX = 1_000_000
# prctl(2), seccomp(2), BPF.
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_AUXV = 22, 38, 0x41555856
SECCOMP_MODE_FILTER, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, ENOSYS = 2, 0x7FFF0000, 0x00050000, 38
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
CALL_NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
PRCTL = {"x86_64": 157, "aarch64": 167}
# What wasmhost needs beside the flags that are measured: valgrind knows less of the system than the host confines.
OF_WASMHOST = ["--workers", "1", "--confine", "off"]


def require():
    if not shutil.which("valgrind"):
        raise Failed("valgrind is missing; install Debian's package valgrind")


def refuse_auxv():
    """Refuses PR_GET_AUXV in this process, which becomes valgrind."""
    steps = [
        (LOAD, 0, 0, CALL_NUMBER_AT), (EQUAL, 0, 3, PRCTL[platform.machine()]),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT), (EQUAL, 0, 1, PR_GET_AUXV),
        (RETURN, 0, 0, SECCOMP_RET_ERRNO | ENOSYS), (RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def ask(connection, host):
    """One GET, answered 200."""
    client, lines = connection
    client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    status, length = lines.readline(), None
    while (line := lines.readline()) not in (b"\r\n", b""):
        name, _, value = line.lower().partition(b":")
        length = int(value) if name == b"content-length" else length
    if b" 200 " not in status:
        return False
    if length is not None:
        lines.read(length)
        return True
    while (size := int(lines.readline(), 16)) > 0:
        lines.read(size + 2)
    lines.readline()
    return True


def counted(argv, scratch, host, requests, announced, env):
    """Instructions of a server that is asked so often after it answered a first time."""
    program, *words = argv
    program = Path(program).resolve()
    folder = Path(tempfile.mkdtemp(dir=scratch))
    copy, out, other = folder / "copy", folder / "callgrind", folder / OTHER_PATH.decode()
    copy.write_bytes(program.read_bytes().replace(OWN_PROGRAM, OTHER_PATH))
    # Who compiles must see the CPU that valgrind shows, as the server does.
    other.write_text(f'#!/bin/sh\ntest -z "${COMPILING_CHILD}" || set -- --tool=none {copy} "$@"\ntest "$1" = --tool=none && exec {shutil.which("valgrind")} "$@"\nexec {copy} "$@"\n')
    copy.chmod(0o700)
    other.chmod(0o700)
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", copy, *words]
    with harness.running(command, scratch, announced=announced, env=env, cwd=folder, before_exec=refuse_auxv) as server:
        with socket.create_connection((server.host, server.port), timeout=STARTS_WITHIN_S) as client, client.makefile("rb") as lines:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The first waits until its app is loaded, which valgrind makes long.
            if not (any(ask((client, lines), host) for _ in range(30)) and all(ask((client, lines), host) for _ in range(requests))):
                raise Failed(f"a request failed:\n{harness.tail(server.log)}")
        server.check_alive()
    total = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    if not total:
        raise Failed(f"valgrind has written no total to {out}")
    shutil.rmtree(folder)
    return int(total[1])


def per_request(argv, scratch, requests, few=FEW, host="localhost", announced=harness.ANNOUNCED, env=None):
    """Instructions of one `GET /`."""
    # The first run of wasmhost compiles the component for the CPU that valgrind shows.
    _, low, high = (counted(argv, scratch, host, number, announced, env) for number in (1, few, few + requests))
    return (high - low) / requests


def precompiled(wasmtime, component, scratch):
    """The component as `wasmtime compile` makes it for the CPU that valgrind shows; `serve` takes it with `--allow-precompiled`."""
    file = Path(scratch) / f"{Path(component).stem}.cwasm"
    if not file.exists():
        command = ["valgrind", "--tool=none", wasmtime, "compile", component, "-o", file]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=COMPILES_WITHIN_S, preexec_fn=refuse_auxv)
        if done.returncode != 0:
            raise Failed(f"wasmtime compile under valgrind: {done.stderr[-2000:]}")
    return file
