"""HTTP/2 clients that read slowly, stop, or leave."""

from __future__ import annotations

import functools
import hashlib
import time

import pytest

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.http2 import Client
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import wait_until


def scripted(origin: Origin, path: str, size: int, store: bool) -> str:
    origin.on(path, answers.big(size, 3, answers.FRESH if store else {"Cache-Control": "no-store"}))
    return path


def started(server: Buffy) -> int:
    """The memory of its processes, as soon as all have imported what they need."""
    before, now = 0, server.memory()
    for _ in range(20):
        if before == now:
            break
        time.sleep(0.3)
        before, now = now, server.memory()
    return now


async def until_gone(request: Received, peer: Peer) -> None:
    """The start of a large body; done when Buffy gives the connection up."""
    await peer.send(answers.head(200, {"Content-Length": str(100 << 20), "Cache-Control": "no-store"}))
    await peer.send(bytes(1 << 20))
    await peer.reader.read(1)


@pytest.mark.parametrize("kind", ["miss", "not stored", "hit"])
def test_a_closed_window_costs_no_memory_and_holds_up_nobody(
    server: Buffy, tls_origin: Origin, path: str, kind: str
) -> None:
    size = 120 << 20
    big = scripted(tls_origin, path, size, store=kind != "not stored")
    tls_origin.on(path + "/small", answers.fixed(b"small", answers.FRESH))
    if kind == "hit":
        assert len(server.get(tls_origin.url(big)).body) == size
    assert server.get(tls_origin.url(path + "/small")).status == 200
    before = started(server)
    client = Client(server, tls_origin)
    slow = client.request(big)
    client.read(0.5)
    assert len(client.bodies[slow]) == 65_535
    others = [client.request(path + "/small") for _ in range(3)]
    client.read(5, lambda: client.ended >= set(others))
    assert [bytes(client.bodies[each]) for each in others] == [b"small"] * 3
    assert server.memory() - before < 64 << 20
    assert slow not in client.ended
    client.finish(slow, seconds=60)
    assert hashlib.sha256(client.bodies[slow]).digest() == hashlib.sha256(piece(3, 0, size)).digest()


def test_a_stream_that_is_reset_lets_the_origin_go(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, until_gone)
    client = Client(server, tls_origin)
    for number in range(1, 4):
        stream = client.request(path)
        client.read(5, functools.partial(client.has, stream, 60_000))
        client.h2.reset_stream(stream, 8)
        client.flush()
        assert tls_origin.wait(path, number).done.wait(5)
    tls_origin.on(path + "/small", answers.fixed(b"small"))
    last = client.request(path + "/small")
    client.finish(last)
    assert client.bodies[last] == b"small"


def test_a_client_that_hangs_up_in_mid_body(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, until_gone)
    client = Client(server, tls_origin)
    streams = [client.request(path) for _ in range(3)]
    client.read(5, lambda: all(client.bodies[each] for each in streams))
    client.sock.close()
    assert tls_origin.hits(path) == 3
    wait_until(lambda: all(request.done.is_set() for request in tls_origin.seen(path)), 5)


def test_many_streams_share_one_connection(server: Buffy, tls_origin: Origin, path: str) -> None:
    """Windows smaller than a chunk, opened again and again."""
    size = 300_000
    client = Client(server, tls_origin, window=1000)
    paths = [scripted(tls_origin, f"{path}/{number % 10}", size, store=True) for number in range(30)]
    streams = [client.request(each) for each in paths]
    client.finish(*streams, seconds=40)
    assert all(client.bodies[each] == piece(3, 0, size) for each in streams)
    assert all(tls_origin.hits(each) == 1 for each in paths)


def test_a_truncated_body_resets_its_stream_only(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, answers.truncated(bytes(1000), 400_000))
    tls_origin.on(path + "/small", answers.fixed(b"small", answers.FRESH))
    client = Client(server, tls_origin)
    cut, small = client.request(path), client.request(path + "/small")
    client.read(10, lambda: client.resets >= {cut} and client.ended >= {small})
    assert client.resets == {cut} and client.bodies[small] == b"small"


def test_errors_of_our_own_are_valid_http2(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, ["reset"])
    client = Client(server, tls_origin)
    get, head = client.request(path), client.request(path, "HEAD")
    client.finish(get, head)
    assert client.heads[get][":status"] == client.heads[head][":status"] == "502"
    assert client.bodies[get] and not client.bodies[head]
