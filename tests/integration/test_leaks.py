"""Clients that leave at every moment leave nothing behind: no descriptor, no connection to the origin."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import wait_until
from tests.support.wire import Connection, connect, request_bytes, target_of, tunnel

CLOSING = {"Connection": "close"}
LARGE = 24 << 20


def descriptors(server: Buffy) -> int:
    """Open files and sockets of all its processes."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.pids())


def hang_up(connection: Connection) -> None:
    """Half of them with RST instead of FIN."""
    if connection.sock.fileno() % 2:
        with contextlib.suppress(OSError):
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def late(request: Received, peer: Peer) -> None:
    """Sends its head only when Buffy has lost patience with the client's absence."""
    with contextlib.suppress(OSError):
        await peer.reader.read(1)


class Visits:
    """What a client may do before it hangs up. Each method is one visit."""

    def __init__(self, server: Buffy, origin: Origin, path: str) -> None:
        self.server, self.origin = server, origin
        self.large = origin.on(path + "/large", answers.big(LARGE, 1, {**answers.FRESH, **CLOSING}))
        self.unstored = origin.on(path + "/unstored", answers.big(LARGE, 1, {"Cache-Control": "no-store"}))
        self.late = origin.on(path + "/late", late)
        self.cut = origin.on(path + "/cut", answers.truncated(bytes(5000), 90_000, answers.FRESH))
        self.upload = origin.on(path + "/upload", late)
        assert len(server.get(self.large).body) == LARGE

    def ask(self, url: str, method: str = "GET", take: int = 0) -> None:
        connection = self.server.open(url, timeout=10)
        self.server.send(connection, method, url)
        if take:
            connection.exactly(take)
        hang_up(connection)

    def nothing(self) -> None:
        hang_up(connect(self.server.proxy))

    def half_a_head(self) -> None:
        connection = connect(self.server.proxy)
        connection.send(request_bytes("GET", self.large, "x")[:30])
        hang_up(connection)

    def only_a_tunnel(self) -> None:
        hang_up(tunnel(self.server.proxy, self.origin.host, self.origin.port))

    def half_a_handshake(self) -> None:
        connection = tunnel(self.server.proxy, self.origin.host, self.origin.port)
        connection.send(b"\x16\x03\x01\x02\x00\x01")
        hang_up(connection)

    def before_the_head(self) -> None:
        self.ask(self.late)

    def before_the_head_of_head(self) -> None:
        self.ask(self.late, "HEAD")

    def in_a_large_hit(self) -> None:
        self.ask(self.large, take=100_000)

    def in_what_is_not_stored(self) -> None:
        self.ask(self.unstored, take=100_000)

    def in_a_body_that_is_cut(self) -> None:
        self.ask(self.cut, take=1000)

    def in_an_upload(self) -> None:
        target, host = target_of(self.upload)
        connection = self.server.open(self.upload)
        connection.send(request_bytes("PUT", target, host, [("Content-Length", "9000")], b"some"))
        hang_up(connection)

    def all(self) -> list[Callable[[], None]]:
        names = [name for name, what in vars(Visits).items() if callable(what) and name[0] != "_"]
        return [getattr(self, name) for name in names if name not in ("ask", "all")]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_is_left_behind(
    server: Buffy, origin: Origin, tls_origin: Origin, path: str, scheme: str
) -> None:
    visits = Visits(server, origin if scheme == "http" else tls_origin, path)
    for visit in visits.all():
        visit()
    wait_until(lambda: all(request.done.is_set() for request in visits.origin.received), 10)
    before = descriptors(server)

    def many() -> None:
        for _ in range(12):
            for visit in visits.all():
                visit()

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    wait_until(lambda: all(request.done.is_set() for request in visits.origin.received), 15, "the origin")
    wait_until(lambda: descriptors(server) <= before + 2, 15, f"{descriptors(server)} descriptors, {before}")
    assert not list((server.data_dir / "tmp").iterdir())
    assert len(server.get(visits.large).body) == LARGE
    assert "crashed" not in server.log() and "never retrieved" not in server.log()
