"""The front in this process, with clients that say nothing any more."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buffy_proxy.addons import front, handover
from buffy_proxy.addons.door import Handler
from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.leaves import Leaves
from buffy_proxy.addons.master import BuffyMaster
from buffy_proxy.addons.tls import ensure_ca
from buffy_proxy.cache import Cache
from buffy_proxy.ledger import Ledger
from buffy_proxy.store.memory import MemoryStore
from buffy_proxy.trust import ca_files
from buffy_proxy.upstream import from_environment
from tests.support import answers
from tests.support.authority import Authority
from tests.support.http2 import Client
from tests.support.origin import Origin
from tests.support.shell import config, origins_client, run
from tests.support.wire import connect


@asynccontextmanager
async def fronted(directory: Path, authority: Authority) -> AsyncIterator[Any]:
    """Where it listens, as clients want to know it."""
    ensure_ca(directory)
    async with origins_client(authority.ca_file) as origins:
        cache = Cache(MemoryStore(), config(directory), origins)
        interceptor = Interceptor(cache, Ledger(cache.store), cache.config, frozenset())
        master = BuffyMaster(interceptor, cache.config, from_environment({}, None), authority.ca_file)
        running = asyncio.ensure_future(master.run())
        sock = socket.create_server(("127.0.0.1", 0))
        server, parts = await front.listen(master, interceptor, Leaves(directory), master.tunnels, sock)
        yield SimpleNamespace(proxy=sock.getsockname(), ca_file=ca_files(directory)[1])
        server.close()
        parts.close()
        master.shutdown()
        await running
        await cache.flights.drain(0.0)


def test_a_silent_client_is_gone(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "IDLE_S", 0.3)

    async def test() -> None:
        async with fronted(tmp_path, authority) as server:
            connection = connect(server.proxy, 5)
            assert await asyncio.to_thread(connection.recv) == b""

    run(test())


def test_a_silent_http2_client_hears_goodbye(
    authority: Authority, tls_origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9113 §6.8: it knows then that what it asks for later was not done."""
    monkeypatch.setattr(front, "IDLE_S", 0.3)

    async def test() -> None:
        async with fronted(tmp_path, authority) as server:
            client = await asyncio.to_thread(Client, server, tls_origin)
            await asyncio.to_thread(client.read, 5, lambda: client.left is not None)
            assert client.left == 0
            assert await asyncio.to_thread(client.sock.recv, 100) == b""

    run(test())


class Impatient(Handler):
    """Thinks that nobody is there after a second; mitmproxy waits for ten minutes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.timeout_watchdog.timeout = 1


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_stream_that_takes_long_keeps_its_connection(
    authority: Authority,
    tls_origin: Origin,
    path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    handed_over: bool,
) -> None:
    """Neither the front nor mitmproxy, which sees nothing of it, takes it for idle."""
    monkeypatch.setattr(front, "IDLE_S", 0.3)
    monkeypatch.setattr(handover, "Handler", Impatient)
    tls_origin.on(path, answers.sized([b"one", 1.6, b"two", 1.6, b"three"], {"Cache-Control": "no-store"}))

    async def test() -> None:
        async with fronted(tmp_path, authority) as server:
            client = await asyncio.to_thread(Client, server, tls_origin)
            slow = client.request(path)
            if handed_over:
                client.request("/odd", "OPTIONS")
            await asyncio.to_thread(client.finish, slow)
            assert client.bodies[slow] == b"onetwothree"
            await asyncio.to_thread(client.close)

    run(test())
