"""The store's futures, awaited in an event loop.

The writing thread resolves a group of them at a time; one wake-up of the loop delivers all that are there.
(asyncio.wrap_future writes to the loop's self-pipe for each, which costs as much as the write itself.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Landings:
    """For one event loop. What is awaited goes on in the store though its waiter is cancelled."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._landed: deque[Callable[[], None]] = deque()
        self._woken = False

    async def of(self, future: Future[T]) -> T:
        """The future's result, or what it raises."""
        if future.done():
            return future.result()
        loop = self._loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(lambda done: self._land(lambda: _deliver(done, waiter)))
        return await waiter

    def _land(self, deliver: Callable[[], None]) -> None:
        """In any thread. `_woken` falls before the queue is emptied, so nothing is left in it."""
        self._landed.append(deliver)
        if self._woken or self._loop is None or self._loop.is_closed():
            return
        self._woken = True
        self._loop.call_soon_threadsafe(self._deliver_all)

    def _deliver_all(self) -> None:
        self._woken = False
        while self._landed:
            self._landed.popleft()()


def _deliver(future: Future[Any], waiter: asyncio.Future[Any]) -> None:
    if waiter.done():
        return
    if (error := future.exception()) is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(future.result())
