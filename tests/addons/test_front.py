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

from buffy_proxy.addons import front
from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.leaves import Leaves
from buffy_proxy.addons.tls import LearnedTunnels, TunnelHosts, ensure_ca
from buffy_proxy.ledger import Ledger
from buffy_proxy.trust import ca_files
from tests.support.http2 import Client
from tests.support.origin import Origin
from tests.support.shell import cache, run
from tests.support.wire import connect


@asynccontextmanager
async def fronted(directory: Path) -> AsyncIterator[Any]:
    """Where it listens, as clients want to know it. It has nobody to hand over to."""
    ensure_ca(directory)
    async with cache(directory) as made:
        interceptor = Interceptor(made, Ledger(made.store), made.config, frozenset())
        tunnels = TunnelHosts((), LearnedTunnels(), learn=False)
        sock = socket.create_server(("127.0.0.1", 0))
        nobody: Any = None
        server, parts = await front.listen(nobody, interceptor, Leaves(directory), tunnels, sock)
        yield SimpleNamespace(proxy=sock.getsockname(), ca_file=ca_files(directory)[1])
        server.close()
        parts.close()


def test_a_silent_http2_client_hears_goodbye(
    tls_origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9113 §6.8: it knows then that what it asks for later was not done."""
    monkeypatch.setattr(front, "IDLE_S", 0.3)

    async def test() -> None:
        async with fronted(tmp_path) as server:
            client = await asyncio.to_thread(Client, server, tls_origin)
            await asyncio.to_thread(client.read, 5, lambda: client.left is not None)
            assert client.left == 0
            assert await asyncio.to_thread(client.sock.recv, 100) == b""

    run(test())


def test_a_silent_client_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "IDLE_S", 0.3)

    async def test() -> None:
        async with fronted(tmp_path) as server:
            connection = connect(server.proxy, 5)
            assert await asyncio.to_thread(connection.recv) == b""

    run(test())
