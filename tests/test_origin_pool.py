"""The pool of connections to origins: which are used again, and that none is left behind."""

from __future__ import annotations

import asyncio

import pytest

from buffy_proxy.errors import OriginError
from tests.support import answers
from tests.support.origin import CLOSE, Origin, Peer, Received
from tests.support.shell import fetch, origins_client, raw, read, run, word


def test_connections_are_used_again(origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"hello"))

    async def test() -> None:
        async with origins_client() as origins:
            for _ in range(3):
                assert await read(await fetch(origins, url)) == b"hello"
            two = [await fetch(origins, url) for _ in range(2)]
            assert [await read(each) for each in two] == [b"hello"] * 2

    run(test())
    used = [request.connection for request in origin.seen(path)]
    assert len(set(used[:4])) == 1 and len(set(used)) == 2


@pytest.mark.parametrize("how", ["abort", "Connection: close", "HTTP/1.0", "more than announced"])
def test_what_ends_a_connection(origin: Origin, path: str, how: str) -> None:
    line = "HTTP/1.0 200 OK" if how == "HTTP/1.0" else "HTTP/1.1 200 OK"
    close = ["Connection: close"] if how == "Connection: close" else []
    extra = b"HTTP/1.1 200 OK\r\n" if how == "more than announced" else b""
    url = origin.on(path, [raw(line, "Content-Length: 5", *close, body=b"hello" + extra)])

    async def test() -> None:
        async with origins_client() as origins:
            for _ in range(2):
                response = await fetch(origins, url)
                if how == "abort":
                    response.abort()
                else:
                    assert await read(response) == b"hello"
                await asyncio.sleep(0.02)

    run(test())
    first, second = origin.seen(path)
    assert first.connection != second.connection


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH"])
def test_only_idempotent_methods_use_a_connection_that_may_be_stale(
    origin: Origin, path: str, method: str
) -> None:
    """The origin takes the second request on a connection and closes without an answer."""
    served: dict[int, int] = {}

    async def once(request: Received, peer: Peer) -> None:
        served[request.connection] = served.get(request.connection, 0) + 1
        await (peer.send(raw("HTTP/1.1 200 OK", "Content-Length: 0")) if served[request.connection] == 1
               else peer.close())  # fmt: skip

    url = origin.on(path, once)

    async def test() -> None:
        async with origins_client() as origins:
            await read(await fetch(origins, url))
            assert (await fetch(origins, url, method)).head.status == 200

    run(test())
    sent = [request.method for request in origin.seen(path)].count(method)
    assert sent == {"GET": 3, "PUT": 2}.get(method, 1)


def test_a_new_connection_is_not_tried_twice(origin: Origin, path: str) -> None:
    url = origin.on(path, [CLOSE])

    async def test() -> None:
        async with origins_client() as origins:
            assert await word(origins, url) == "connection_terminated"

    run(test())
    assert origin.hits(path) == 1


def sockets() -> int:
    """What the event loop watches."""
    return len(asyncio.get_running_loop()._selector.get_map())  # type: ignore[attr-defined]


def test_a_client_that_leaves_at_any_moment_leaves_no_connection(origin: Origin, path: str) -> None:
    url = origin.on(path, [0.02, *answers.sized([b"a", 0.02, b"b", 0.02, b"c"])])

    async def test() -> None:
        async with origins_client() as origins:
            before = sockets()

            async def whole() -> bytes:
                response = await fetch(origins, url)
                try:
                    return await read(response)
                finally:
                    response.abort()

            for moment in range(12):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(whole(), moment * 0.005)
            await asyncio.sleep(0.05)
            assert sockets() == before

    run(test())


def test_an_aborted_response_ends_its_reader(origin: Origin, path: str) -> None:
    url = origin.on(path, [*answers.sized([b"half"], length=9), 5.0])

    async def test() -> None:
        async with origins_client() as origins:
            response = await fetch(origins, url)
            reader = asyncio.ensure_future(read(response))
            await asyncio.sleep(0.05)
            response.abort()
            with pytest.raises(OriginError, match="dropped"):
                await asyncio.wait_for(reader, 1)

    run(test())
