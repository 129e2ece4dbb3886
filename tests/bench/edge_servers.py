"""The servers that `edge` compares: wasmhost, plain hyper, nginx and Node, each with and without TLS and HTTP/2.

Python 3.9's standard library only, on Linux.
"""

import contextlib
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass

import harness
from h2load import Wire
from harness import BENCH, Failed

PLAIN, OURS, NGINX, NODE = "plain hyper", "wasmhost", "nginx", "Node cluster"
HELLO = b"Hello, World!"
ANNOUNCED = r"https?://(?P<host>127\.0\.0\.1):(?P<port>\d+)"
# Where the files are, below the root of the site.
ASSETS = "/assets"
KEY_KIND = "ECDSA P-256"


@dataclass
class Up:
    """What answers on a port: one server, or several that work together."""

    port: int
    parts: list

    def cpu_seconds(self):
        return sum(harness.cpu_seconds(part.pid) for part in self.parts)

    def memory_kb(self):
        return sum(harness.memory_mb(part.pid, "VmRSS") for part in self.parts) * 1000

    def check_alive(self):
        for part in self.parts:
            part.check_alive()


def program(name, package):
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise Failed(f"{name} is not installed\nhint: apt-get install {package}")
    return found


def free_port():
    """nginx does not say which port it got, so it is given one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Servers:
    def __init__(self, given, binaries, guest, scratch):
        self.workers, self.guest, self.scratch = given.workers, guest, scratch
        self.wasmhost, self.plain_hyper = binaries
        self.certificate, self.key = scratch / "cert.pem", scratch / "key.pem"
        self.site = scratch / "site"
        (self.site / ASSETS.strip("/")).mkdir(parents=True)
        self.make_certificate()

    def make_certificate(self):
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command = [program("openssl", "openssl"), "req", "-x509", *kind, *names, "-keyout", self.key, "-out", self.certificate]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"openssl: {done.stderr}")

    @contextlib.contextmanager
    def one(self, argv, **more):
        with harness.running(argv, self.scratch, **{"announced": ANNOUNCED, **more}) as up:
            yield Up(up.port, [up])

    def tls_flags(self, wire):
        return ["--tls-cert", self.certificate, "--tls-key", self.key] if wire.is_tls else []

    def plain(self, wire):
        return self.one([self.plain_hyper, "--listen", "127.0.0.1:0", "--workers", self.workers, *self.tls_flags(wire), *(["--http2"] if wire.is_http2 else [])])

    def ours(self, wire, *flags):
        argv = [self.wasmhost, self.guest, "--listen", "127.0.0.1:0", "--cache-dir", self.scratch / "cache", "--workers", self.workers]
        return self.one([*argv, *self.tls_flags(wire), *flags])

    def our_files(self, wire):
        return self.ours(wire, "--static", f"{ASSETS}::{self.site / ASSETS.strip('/')}")

    def node(self, wire):
        name = {"HTTP/1.1": "http", "HTTP/1.1, TLS": "https", "h2": "http2", "h2, TLS": "http2s"}[str(wire)]
        return self.one([program("node", "nodejs"), BENCH / "node-cluster.mjs", self.workers, name, self.certificate, self.key])

    @contextlib.contextmanager
    def nginx(self, wire, upstream):
        """nginx alone where there is no port behind it, with the files of the site."""
        port, folder = free_port(), self.scratch / f"nginx-{'files' if upstream is None else 'proxy'}"
        folder.mkdir(exist_ok=True)
        # Kept connections to what is behind, as its documentation has it.
        behind = f"upstream behind {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}"
        location = 'proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";'
        tls = f"ssl_certificate {self.certificate}; ssl_certificate_key {self.key}; ssl_protocols TLSv1.3;"
        temporary = " ".join(f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder / 'pid'}; error_log stderr notice; worker_processes {self.workers}; worker_rlimit_nofile 65536;\n"
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            "events { worker_connections 16384; }\n"
            f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; types {{ text/plain txt; }} {temporary}\n"
            f"{'' if upstream is None else behind}\n"
            f"server {{ listen 127.0.0.1:{port}{' ssl' if wire.is_tls else ''}{' http2' if wire.is_http2 else ''};\n"
            f"{tls if wire.is_tls else ''} location / {{ {f'root {self.site};' if upstream is None else location} }} }} }}\n"
        )
        argv = [program("nginx", "nginx-light"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
        with self.one(argv, announced="start worker process ", port=port) as up:
            yield up

    def nginx_files(self, wire):
        return self.nginx(wire, None)

    @contextlib.contextmanager
    def behind_nginx(self, wire):
        """Both are counted."""
        with self.ours(Wire()) as ours, self.nginx(wire, ours.port) as nginx:
            yield Up(nginx.port, [*nginx.parts, *ours.parts])

    def check(self, up, wire, path, body):
        """One answer, by curl, that is looked at as a whole."""
        version = "--http1.1" if not wire.is_http2 else "--http2" if wire.is_tls else "--http2-prior-knowledge"
        command = [program("curl", "curl"), "-sS", "--max-time", "20", "--cacert", self.certificate, version, "-w", "%{stderr}%{http_version} %{http_code}", f"{wire.scheme}://127.0.0.1:{up.port}{path}"]
        done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
        told = done.stderr.decode(errors="replace")
        if done.returncode or told != f"{'2' if wire.is_http2 else '1.1'} 200" or done.stdout != body:
            raise Failed(f"{path} over {wire} was answered {told!r} with {len(done.stdout)} bytes: {done.stdout[:100]!r}")


def versions():
    """What else is measured, by name, and by what."""
    commands = (("nginx", "-v"), ("node", "--version"), ("h2load", "--version"), ("openssl", "version"))
    found = {name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") for name, _ in commands}
    return ", ".join(f"{name}: {harness.version(found[name], flag)}" for name, flag in commands if found[name])
