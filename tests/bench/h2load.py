"""One client for all that a server speaks: nghttp2's h2load, whose every answer is looked at.

Python 3.9's standard library only, on Linux.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

from harness import Failed

# All servers encrypt alike: h2load offers nothing else.
CIPHER = "TLS_AES_128_GCM_SHA256"


@dataclass(frozen=True)
class Wire:
    """What connections speak."""

    is_http2: bool = False
    is_tls: bool = False

    def __str__(self):
        return f"{'h2' if self.is_http2 else 'HTTP/1.1'}{', TLS' if self.is_tls else ''}"

    @property
    def scheme(self):
        return "https" if self.is_tls else "http"


H1, H1_TLS, H2, H2_TLS = Wire(), Wire(is_tls=True), Wire(is_http2=True), Wire(is_http2=True, is_tls=True)
WIRES = (H1, H1_TLS, H2, H2_TLS)


def require():
    if shutil.which("h2load") is None:
        raise Failed("h2load is not installed\nhint: apt-get install nghttp2-client")


def load(port, wire, path, size, seconds, connections, streams=1):
    """How many requests were answered in this time; of those under way at the end, what has come. Each answer is 200, with a
    body of `size` bytes, or this fails."""
    command = ["h2load", "-D", f"{round(seconds * 1000)}ms", "-t", 1, "-c", connections, "-m", streams]
    command += [f"--tls13-ciphers={CIPHER}", *([] if wire.is_http2 else ["--h1"]), f"{wire.scheme}://127.0.0.1:{port}{path}"]
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60, check=False)
    said = f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    counts = re.search(r"^requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout, re.MULTILINE)
    statuses = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout, re.MULTILINE)
    data = re.search(r", [\d.]+[KMGT]?B \((\d+)\) data$", done.stdout, re.MULTILINE)
    if done.returncode or not (counts and statuses and data):
        raise Failed(f"h2load failed or said something else: {said}")
    answered, succeeded, *bad = map(int, counts.groups())
    # At the end, a part of what was under way has come.
    good, *others = (int(count) for count in statuses.groups())
    under_way = connections * streams
    if not answered or answered != succeeded or any(bad) or any(others) or not answered <= good <= answered + under_way:
        raise Failed(f"not every request was answered 200: {said}")
    if not answered * size <= int(data[1]) <= (answered + under_way) * size:
        raise Failed(f"{answered} bodies of {size} bytes are not the {data[1]} bytes that came: {said}")
    told = dict(re.findall(r"^(TLS Protocol|Cipher|Application protocol): (.+)$", done.stdout, re.MULTILINE))
    wanted = ("TLSv1.3", CIPHER, "h2" if wire.is_http2 else "http/1.1")
    if wire.is_tls and tuple(map(told.get, ("TLS Protocol", "Cipher", "Application protocol"))) != wanted:
        raise Failed(f"the server has chosen {told} in the place of {wanted}: {said}")
    return int(data[1]) / size
