"""Collapsed forwarding: many requests for one missing resource are one request to the origin."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Step
from tests.support.procs import wait_until
from tests.support.wire import Incomplete, Reply


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


@pytest.mark.parametrize("clients", [50])
def test_fifty_requests_are_one(server: Buffy, either: Origin, path: str, clients: int) -> None:
    first, rest, gate = piece(1, 0, 100_000), piece(1, 100_000, 300_000), threading.Event()
    url = either.on(path, answers.sized([0.5, first, gate, rest], answers.FRESH))
    reading = threading.Semaphore(0)

    def client(_: int) -> tuple[Reply, bytes]:
        with server.open(url) as connection:
            server.send(connection, "GET", url)
            reply, body = connection.head(), b""
            for chunk in connection.body_chunks(reply):
                if not body:
                    reading.release()
                body += chunk
            return reply, body

    with ThreadPoolExecutor(clients) as pool:
        results = [pool.submit(client, n) for n in range(clients)]
        for _ in range(clients):
            assert reading.acquire(timeout=30)  # every client reads while the origin still waits
        assert not either.seen(path)[0].done.is_set()
        gate.set()
        done = [result.result(30) for result in results]
    assert all(body == first + rest for _, body in done)
    assert either.hits(path) == 1
    assert sum(reply.cache.collapsed for reply, _ in done) == clients - 1


def in_parallel(server: Buffy, url: str, clients: int = 6) -> list[Reply | Exception]:
    def client(_: int) -> Reply | Exception:
        try:
            return server.get(url)
        except Exception as failure:
            return failure

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(client, range(clients)))


def test_an_answer_that_is_not_storable_frees_the_followers(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.sized([0.5, b"mine alone"], {"Cache-Control": "private, no-store"}))
    began = time.monotonic()
    replies = in_parallel(server, url)
    assert [reply.body for reply in replies if isinstance(reply, Reply)] == [b"mine alone"] * 6
    assert origin.hits(path) == 6  # what is for one client alone is never given to another
    assert time.monotonic() - began < 3  # together, not one after the other


def test_a_leader_that_fails_frees_the_followers(server: Buffy, origin: Origin, path: str) -> None:
    turns: list[list[Step]] = [[0.5, "reset"]]

    async def script(request, peer):  # type: ignore[no-untyped-def]
        if turns:
            await peer.run(turns.pop())
        else:
            await answers.fixed(b"good", answers.FRESH)(request, peer)

    url = origin.on(path, script)
    replies = in_parallel(server, url)
    good = [reply for reply in replies if isinstance(reply, Reply) and reply.body == b"good"]
    assert len(good) >= 5, replies
    assert server.get(url).body == b"good"


def test_a_truncated_leader_is_no_success_for_anyone(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, [0.3, *answers.truncated(b"half", 1000, answers.FRESH)])
    for reply in in_parallel(server, url):
        assert reply.status >= 500 if isinstance(reply, Reply) else isinstance(reply, Incomplete), reply
    origin.on(path, answers.fixed(b"whole", answers.FRESH))
    reply = server.get(url)
    assert reply.body == b"whole" and not reply.cache.hit


def test_a_leader_whose_client_leaves_goes_on_for_the_followers(
    server: Buffy, either: Origin, path: str
) -> None:
    gate = threading.Event()
    url = either.on(path, answers.sized([b"first ", gate, b"last"], answers.FRESH))
    leader = server.open(url)
    server.send(leader, "GET", url)
    next(leader.body_chunks(leader.head()))
    with server.open(url) as follower:
        server.send(follower, "GET", url)
        reply = follower.head()
        chunks = follower.body_chunks(reply)
        assert next(chunks) == b"first "
        leader.close()
        time.sleep(0.2)
        gate.set()
        assert b"".join(chunks) == b"last"
    assert either.hits(path) == 1


def test_a_small_rest_is_finished_after_the_client_left(server: Buffy, either: Origin, path: str) -> None:
    gate = threading.Event()
    url = either.on(path, answers.sized([b"first ", gate, b"last"], answers.FRESH))
    with server.open(url) as client:
        server.send(client, "GET", url)
        next(client.body_chunks(client.head()))
    gate.set()
    wait_until(lambda: server.get(url).cache.hit, 5)
    assert server.get(url).body == b"first last" and either.hits(path) == 1


def test_different_variants_do_not_collapse_into_one(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request, peer):  # type: ignore[no-untyped-def]
        await peer.run([0.3])
        body = (request.get("accept-language") or "").encode()
        await answers.fixed(body, {**answers.FRESH, "Vary": "Accept-Language"})(request, peer)

    url = origin.on(path, script)
    with ThreadPoolExecutor(8) as pool:
        languages = ["de", "en"] * 4
        replies = list(pool.map(lambda lang: server.get(url, [("Accept-Language", lang)]), languages))
    assert [reply.body.decode() for reply in replies] == languages


def test_credentials_do_not_collapse_into_one(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request, peer):  # type: ignore[no-untyped-def]
        await peer.run([0.3])
        await answers.fixed((request.get("authorization") or "").encode(), answers.FRESH)(request, peer)

    url = origin.on(path, script)
    with ThreadPoolExecutor(8) as pool:
        users = [f"Bearer user-{n}" for n in range(8)]
        replies = list(pool.map(lambda user: server.get(url, [("Authorization", user)]), users))
    assert [reply.body.decode() for reply in replies] == users


def test_a_follower_that_does_not_read_holds_nobody_up(server: Buffy, origin: Origin, path: str) -> None:
    gate = threading.Event()
    url = origin.on(path, answers.sized([b"x", gate, piece(2, 0, 40 << 20)], answers.FRESH))
    with server.open(url) as idle, server.open(url) as reader:
        server.send(reader, "GET", url)
        head = reader.head()
        server.send(idle, "GET", url)
        time.sleep(0.2)
        gate.set()
        assert sum(map(len, reader.body_chunks(head))) == (40 << 20) + 1
