"""The store's futures in an event loop: many results, few wake-ups."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from buffy_proxy.errors import StoreFull
from buffy_proxy.landing import Landings


def resolved_in_a_thread(futures: list[Future[int]]) -> threading.Thread:
    def resolve() -> None:
        for number, future in enumerate(futures):
            future.set_result(number)

    thread = threading.Thread(target=resolve)
    thread.start()
    return thread


def test_a_group_wakes_the_loop_once_or_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> list[int]:
        landings, futures = Landings(), [Future[int]() for _ in range(500)]
        waiting = [asyncio.ensure_future(landings.of(future)) for future in futures]
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted(loop.call_soon_threadsafe))
        thread = resolved_in_a_thread(futures)
        thread.join()  # the loop stands still meanwhile
        return await asyncio.gather(*waiting)

    calls: list[None] = []

    def counted(call):  # type: ignore[no-untyped-def]
        def counting(*args):  # type: ignore[no-untyped-def]
            calls.append(None)
            return call(*args)

        return counting

    assert asyncio.run(test()) == list(range(500))
    assert len(calls) == 1


def test_errors_and_what_is_done_already() -> None:
    async def test() -> None:
        landings = Landings()
        done: Future[int] = Future()
        done.set_result(7)
        assert await landings.of(done) == 7
        full: Future[int] = Future()
        waiting = asyncio.ensure_future(landings.of(full))
        await asyncio.sleep(0)
        full.set_exception(StoreFull("no room"))
        with pytest.raises(StoreFull, match="no room"):
            await waiting

    asyncio.run(test())


def test_who_no_longer_waits_takes_nothing_back() -> None:
    """The write goes on: its version is stored though the client that asked for it has left."""

    async def test() -> None:
        landings, future = Landings(), Future[int]()
        waiting = asyncio.ensure_future(landings.of(future))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        assert not future.cancelled()
        future.set_result(1)
        await asyncio.sleep(0.01)
        assert waiting.cancelled()

    asyncio.run(test())


def test_a_loop_that_is_closed_is_left_alone() -> None:
    landings, future = Landings(), Future[int]()

    async def test() -> None:
        waiting = asyncio.ensure_future(landings.of(future))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(test())
    future.set_result(1)  # a callback that raised would be logged
    assert future.result() == 1
