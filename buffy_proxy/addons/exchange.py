"""One request on its way between a mitmproxy layer (a generator) and the cache (a coroutine).

The layer yields a blocking hook; the door runs it in a task and wakes the layer when it is done. A client
that goes away *abandons* the exchange: what it waits for is cancelled, and the layer cleans up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands

from buffy_proxy.answer import Answer
from buffy_proxy.cache import Cache
from buffy_proxy.core.model import Request, Response
from buffy_proxy.origin import interim_sink

log = logging.getLogger("buffy.proxy")

Drain = Callable[[], Awaitable[None]]


class Exchange:
    """`answer` is set after AskHook, `chunk` after each ChunkHook (b"": the end). `failure` ends it early."""

    def __init__(self, cache: Cache, request: Request) -> None:
        self.request = request
        self.answer: Answer | None = None
        self.chunk = b""
        self.sent = 0
        self.failure: str | None = None
        self.abandoned = False
        self._cache = cache
        self._stream: AsyncIterator[bytes] | None = None
        self._running: asyncio.Future[Any] | None = None
        self._opening: asyncio.Future[Answer] | None = None
        self._interim: list[Response] = []
        self._news = asyncio.Event()

    async def ask(self) -> None:
        """Until there is the answer, or an interim response to pass on (see `heard`)."""
        await self._run(self._ask())

    async def _ask(self) -> None:
        if self._opening is None:
            interim_sink.set(self._hear)
            self._opening = asyncio.ensure_future(self._cache.open(self.request))
            self._opening.add_done_callback(lambda _: self._news.set())
        await self._news.wait()
        self._news.clear()
        if self._opening.done():
            self.answer = self._opening.result()
            self._stream = self.answer.stream

    def _hear(self, head: Response) -> None:
        if self.answer is None:
            self._interim.append(head)
            self._news.set()

    def heard(self) -> list[Response]:
        """The interim responses since the last call."""
        found, self._interim = self._interim, []
        return found

    async def advance(self, drain: Drain) -> None:
        """The next piece of the body, once the client has taken most of the ones before."""
        await self._run(self._advance(drain))

    async def _advance(self, drain: Drain) -> None:
        self.sent += len(self.chunk)
        await drain()
        assert self._stream is not None
        self.chunk = await anext(self._stream, b"")

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self.abandoned:
            work.close()
            return
        self._running = asyncio.ensure_future(work)
        try:
            await self._running
        except asyncio.CancelledError:
            self.abandon()
        except ConnectionError as error:
            self.failure = f"the client is gone: {error}"
        except Exception as error:
            self.failure = str(error) or repr(error)
            log.log(
                logging.INFO if self.answer else logging.ERROR,
                "%s ended early: %s",
                self.request.url,
                self.failure,
            )
        finally:
            self._running = None

    def abandon(self) -> None:
        self.abandoned = True
        if self._running is not None:
            self._running.cancel()
        if self.answer is None and self._opening is not None and not self._opening.cancel():
            self._close_late()

    def _close_late(self) -> None:
        """An answer that came just when nobody wanted it any more."""
        opening = self._opening
        if opening is not None and not opening.cancelled() and opening.exception() is None:
            opening.result().close()

    def close(self) -> None:
        if self.answer is not None:
            self.answer.close()


class OwnHook(commands.StartHook):
    """A hook that the door runs itself."""

    name = ""

    async def run(self, drain: Drain) -> None:
        raise NotImplementedError


@dataclass
class AskHook(OwnHook):
    """Asks the cache."""

    name = "buffy_ask"
    flow: http.HTTPFlow
    exchange: Exchange

    async def run(self, drain: Drain) -> None:
        await self.exchange.ask()


@dataclass
class ChunkHook(OwnHook):
    """Gets the next chunk of the answer's body."""

    name = "buffy_chunk"
    flow: http.HTTPFlow
    exchange: Exchange
    drain: Drain

    async def run(self, drain: Drain) -> None:
        async def both() -> None:
            await drain()
            await self.drain()

        await self.exchange.advance(both)
