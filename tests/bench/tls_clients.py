"""Clients that shake hands again and again, and connections that lie idle, over TLS 1.3.

Python 3.9's standard library only, on Linux.
"""

import contextlib
import http.client
import multiprocessing
import resource
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass

from harness import Failed

HOST = "127.0.0.1"
TIMEOUT_S = 20
# A handshake is as dear for its client as for the server, so one client would leave the server idle.
CLIENTS = 4


@dataclass
class Seen:
    """Handshakes of all clients, and how many of them have resumed the session before."""

    done: int = 0
    resumed: int = 0


def context(certificate):
    made = ssl.create_default_context(cafile=certificate)
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_3
    made.set_alpn_protocols(["http/1.1"])
    return made


def connect(port, tls, session=None):
    """A connection that has shaken hands."""
    raw = socket.create_connection((HOST, port), timeout=TIMEOUT_S)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(raw, server_hostname="localhost", session=session)


def ticket_of(client):
    """The session to resume. The server sends its ticket behind the handshake, which is over for it only then."""
    client.setblocking(False)
    ends = time.monotonic() + TIMEOUT_S
    while True:
        if not select.select([client], [], [], max(0, ends - time.monotonic()))[0]:
            raise Failed("no session ticket came")
        with contextlib.suppress(ssl.SSLWantReadError):
            raise Failed(f"in the place of a session ticket came {client.recv(100)!r}")
        if client.session.has_ticket:
            return client.session


def shake_hands(port, certificate, seconds, resume, begin, seen):
    """One client: a handshake after the other, each on a connection of its own that asks for nothing."""
    try:
        tls, session, counted = context(certificate), None, Seen()
        if resume:
            with connect(port, tls) as client:
                session = ticket_of(client)
        begin.wait(TIMEOUT_S)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            with connect(port, tls, session) as client:
                counted.done += 1
                counted.resumed += client.session_reused
                # The server has done its part when it answers the end; some just close then.
                with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError):
                    client.unwrap()
        seen.put(counted)
    except threading.BrokenBarrierError:
        # Another one has failed, which says why.
        seen.put(Seen())
    except Exception as error:
        begin.abort()
        seen.put(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def shaking(port, certificate, seconds, resume):
    """Clients that are ready; called, they shake hands for so long, and it gives what they have done."""
    new = multiprocessing.get_context("fork")
    begin, seen = new.Barrier(CLIENTS + 1), new.Queue()
    clients = [new.Process(target=shake_hands, args=(port, certificate, seconds, resume, begin, seen), daemon=True) for _ in range(CLIENTS)]
    for client in clients:
        client.start()

    def run():
        # A client that has failed breaks it, and says why.
        with contextlib.suppress(threading.BrokenBarrierError):
            begin.wait(TIMEOUT_S)
        each = [seen.get(timeout=seconds + TIMEOUT_S) for _ in clients]
        if failures := [one for one in each if isinstance(one, str)]:
            raise Failed(f"a client that shakes hands: {failures[0]}")
        total = Seen(sum(one.done for one in each), sum(one.resumed for one in each))
        if not total.done or total.resumed != (total.done if resume else 0):
            raise Failed(f"{total.resumed} of {total.done} handshakes have resumed a session")
        return total

    try:
        yield run
    finally:
        for client in clients:
            client.join(1)
            client.kill()


def raise_descriptors(wanted):
    """So many connections need as many descriptors, here and in the servers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failed(f"only {hard} descriptors are allowed\nhint: raise the hard limit (ulimit -Hn) to {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def ask(client, body):
    """One GET on a connection that stays open."""
    client.request("GET", "/")
    answer = client.getresponse()
    if (answer.status, read := answer.read()) != (200, body) or answer.will_close:
        raise Failed(f"the answer was {answer.status} with {read!r}")


@contextlib.contextmanager
def idle(port, certificate, count, body):
    """So many connections, each after one answer; at the end, each of them must still answer."""
    tls = context(certificate)
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(http.client.HTTPConnection(HOST, port))
            clients[-1].sock = stack.enter_context(connect(port, tls))
            ask(clients[-1], body)
        yield
        for client in clients:
            ask(client, body)
