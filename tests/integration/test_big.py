"""A GiB both ways: constant memory, and parts of it from the store."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.bodies import Checker, piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until
from tests.support.wire import Reply

GIB, MIB = 1 << 30, 1 << 20


@contextmanager
def bounded_memory(server: Buffy, limit: int = 64 * MIB) -> Iterator[None]:
    """Anonymous memory of all its processes may grow by `limit` bytes at most, at any time."""
    before, peak, stop = server.memory(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], server.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
    assert peak[0] - before < limit, f"grew by {(peak[0] - before) / MIB:.0f} MiB"


def download(
    server: Buffy, url: str, seed: int, first: int = 0, fields: tuple[tuple[str, str], ...] = ()
) -> Reply:
    """Reads and compares without keeping it."""
    checker = Checker(seed, first)
    with server.open(url, timeout=60) as connection:
        server.send(connection, "GET", url, fields)
        reply = connection.head()
        for data in connection.body_chunks(reply):
            checker.feed(data)
    assert checker.at == GIB
    return reply


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_gib_miss_and_hit(
    buffy: Factory, origin: Origin, tls_origin: Origin, path: str, scheme: str
) -> None:
    which = origin if scheme == "http" else tls_origin
    url = which.on(path, answers.big(GIB, 6, answers.FRESH))
    small = which.on(path + "/small", answers.fixed(b"warm", answers.FRESH))
    server = buffy()
    for _ in range(3):
        server.get(small)
    with bounded_memory(server):
        assert not download(server, url, 6).cache.hit
    offline = "mode=offline"
    wait_until(lambda: server.request("HEAD", url, user=offline).status == 200, 60, "it is stored")
    with bounded_memory(server):
        assert download(server, url, 6).cache.hit
    with bounded_memory(server):
        middle = server.get(url, [("Range", f"bytes={GIB // 2 - 5}-{GIB // 2 + MIB - 1}")])
        assert middle.status == 206 and middle.body == piece(6, GIB // 2 - 5, GIB // 2 + MIB)
        rest = download(
            server, url, 6, GIB // 2, (("Range", f"bytes={GIB // 2}-"), ("If-Range", f'"6-{GIB}"'))
        )
        assert rest.status == 206 and rest.cache.hit
    assert which.hits(path) == 1


@pytest.mark.slow
def test_a_big_upload_takes_no_memory(buffy: Factory, tls_origin: Origin, path: str, tmp_path: Path) -> None:
    url = tls_origin.on(path, answers.fixed(b"thanks"))
    file = tmp_path / "upload"
    with file.open("wb") as out:
        out.truncate(300 * MIB)
    server = buffy()
    server.get(url)
    with bounded_memory(server):
        done: subprocess.CompletedProcess[bytes] = server.curl(url, "-T", str(file))
    assert done.stdout == b"thanks", done.stderr
    assert tls_origin.seen(path)[-1].size == 300 * MIB
    file.unlink()
