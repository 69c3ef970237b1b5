"""The shell without a server: origins' client and cache in the test's own event loop, real sockets."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.answer import Answer
from buffy_proxy.cache import Cache
from buffy_proxy.config import Config, Timeouts, load
from buffy_proxy.core.fields import normalise_url
from buffy_proxy.core.model import Fields, Request
from buffy_proxy.errors import OriginError
from buffy_proxy.origin import OriginResponse, Origins
from buffy_proxy.store import Store
from buffy_proxy.store.memory import MemoryStore
from buffy_proxy.upstream import UpstreamProxies
from tests.support.wire import CacheStatus

QUICK = Timeouts(connect_s=2.0, first_byte_s=2.0, idle_s=2.0)


class Clock:
    """A clock that stands until it is moved; it starts now, since scripted origins send the real date."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


def run(test: Coroutine[Any, Any, None], timeout: float = 20) -> None:
    asyncio.run(asyncio.wait_for(test, timeout))


@asynccontextmanager
async def origins_client(
    ca_file: Path | None = None, timeouts: Timeouts = QUICK, proxies: UpstreamProxies | None = None
) -> AsyncIterator[Origins]:
    made = Origins(ssl.create_default_context(cafile=ca_file), timeouts=timeouts, proxies=proxies)
    try:
        yield made
    finally:
        await made.close()


def config(directory: Path, toml: str = "") -> Config:
    file = directory / "buffy.toml"
    file.write_text(toml)
    return load(file, environ={}, data_dir=directory)


@asynccontextmanager
async def cache(directory: Path, toml: str = "", clock: Clock | None = None, store: Store | None = None):  # type: ignore[no-untyped-def]
    """A Cache over a MemoryStore; flights are dropped at the end."""
    async with origins_client() as origins:
        made = Cache(store or MemoryStore(), config(directory, toml), origins, clock or Clock())
        try:
            yield made
        finally:
            await made.flights.drain(0.0)


def get(url: str, *fields: tuple[str, str], method: str = "GET", **more: Any) -> Request:
    lines: Fields = tuple((name.encode(), value.encode()) for name, value in fields)
    return Request(method, normalise_url(url), lines, **more)


async def body(answer: Answer) -> bytes:
    """All of it, and closes the answer."""
    try:
        if answer.stream is None:
            return answer.content or b""
        return b"".join([chunk async for chunk in answer.stream])
    finally:
        answer.close()


def status(answer: Answer) -> CacheStatus:
    return CacheStatus.parse(answer.cache_status.decode())


# -- the client towards origins

HOST = ((b"Host", b"x"),)


async def fetch(origins: Origins, url: str, method: str = "GET", body: bytes = b"") -> OriginResponse:
    length = ((b"Content-Length", b"%d" % len(body)),) if body else ()
    return await origins.fetch(method, url, (*HOST, *length), body)


async def read(response: OriginResponse) -> bytes:
    return b"".join([chunk async for chunk in response.chunks()])


async def word(origins: Origins, url: str, method: str = "GET") -> str:
    """The error type with which a request fails, whether at its head or in its body."""
    with pytest.raises(OriginError) as caught:
        await read(await fetch(origins, url, method))
    return caught.value.word


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode() + body


async def landed(made: Cache, request: Request) -> Answer:
    """The answer to a request, after all of the one before is committed."""
    answer = await made.open(request)
    await body(answer)
    while len(made.flights):
        await asyncio.sleep(0.005)
    return answer
