"""Many clients at once: nobody gets another one's bytes, and clients that leave cost nothing."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import wait_until


def body_of(number: int) -> bytes:
    start = number * 1013
    return b"%d:" % number + piece(number % 3, start, start + (number % 11) ** 5)


async def numbered(request: Received, peer: Peer) -> None:
    number = int(request.path.rpartition("/")[2])
    fields = answers.FRESH if number % 4 else {"Cache-Control": "no-store"}
    await peer.run([(number % 7) * 0.002])
    await answers.fixed(body_of(number), fields)(request, peer)


def test_everybody_gets_the_right_bytes(server: Buffy, origin: Origin, tls_origin: Origin) -> None:
    for each in (origin, tls_origin):
        each.on("/numbered/*", numbered)

    def client(seed: int) -> int:
        rng, which = random.Random(seed), (origin, tls_origin)[seed % 2]
        with server.open(which.url("/")) as connection:
            for _ in range(30):
                number = rng.randrange(60)
                server.send(connection, "GET", which.url(f"/numbered/{number}"))
                reply = connection.read()
                assert (reply.status, reply.body == body_of(number)) == (200, True), (number, reply.cache.raw)
        return 30

    with ThreadPoolExecutor(24) as pool:
        assert sum(pool.map(client, range(24))) == 720
    for each in (origin, tls_origin):
        assert max(each.hits(f"/numbered/{n}") for n in range(60) if n % 4) == 1


def descriptors(server: Buffy) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.pids())


def test_clients_that_leave_in_the_middle(
    server: Buffy, origin: Origin, tls_origin: Origin, path: str
) -> None:
    urls = []
    for each in (origin, tls_origin):
        stored = each.on(f"{path}/hit", answers.big(20 << 20, 1, answers.FRESH))
        server.get(stored)
        urls += [stored, each.on(f"{path}/miss", answers.big(20 << 20, 2, {"Cache-Control": "no-store"}))]
    time.sleep(0.5)
    before = descriptors(server)

    def leave(number: int) -> None:
        url = urls[number % len(urls)]
        with server.open(url) as connection:
            server.send(connection, "GET", url)
            connection.exactly(1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(60)))
    wait_until(lambda: descriptors(server) < before + 20, 15, "the descriptors are given back")
    assert server.get(urls[0]).body == piece(1, 0, 20 << 20)
    assert "Traceback" not in server.log(), server.log()[-3000:]
