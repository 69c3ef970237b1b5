"""Bodies that are read while they arrive: every reader gets every byte, memory stays bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from buffy_proxy import spool as module
from buffy_proxy.errors import BodyMissing, OriginError
from buffy_proxy.spool import INLINE, READ_SIZE, WINDOW, Spool
from buffy_proxy.store import BodyWriter, open_store
from buffy_proxy.store.bodies import BodyFiles
from buffy_proxy.store.bodies import Spool as Body
from buffy_proxy.store.memory import MemoryStore
from tests.support.bodies import piece

CHUNK = 64 * 1024


def writer(max_size: int = 1 << 30) -> BodyWriter:
    return MemoryStore(max_size=max_size).new_body()


async def produce(spool: Spool, data: bytes, size: int = CHUNK) -> None:
    for start in range(0, len(data), size):
        await spool.feed(data[start : start + size])
    await spool.finish()


async def consume(spool: Spool, token: object, pause_s: float = 0.0) -> bytes:
    parts = []
    async for chunk in spool.read(token):
        parts.append(chunk)
        await asyncio.sleep(pause_s)
    return b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 3 * WINDOW + 7])
@pytest.mark.parametrize("stored", [True, False])
def test_readers_of_any_speed_get_every_byte(size: int, stored: bool) -> None:
    async def run() -> None:
        data = piece(1, 0, size)
        spool = Spool(writer() if stored else None)
        readers = [consume(spool, spool.subscribe(), pause) for pause in (0.0, 0.001, 0.003)]
        *got, _ = await asyncio.gather(*readers, produce(spool, data))
        assert all(each == data for each in got)
        assert spool.complete and (spool.ref is not None) is stored
        if spool.ref is not None:
            assert spool.ref.size == size

    asyncio.run(run())


def test_who_comes_late_reads_from_the_start() -> None:
    async def run() -> None:
        data, spool = piece(2, 0, 2 * WINDOW), Spool(writer())
        await produce(spool, data)
        assert spool.joinable
        assert await consume(spool, spool.subscribe()) == data

    asyncio.run(run())


@pytest.mark.parametrize("size", [100, WINDOW])
def test_a_full_store_costs_the_version_and_no_bytes(size: int) -> None:
    """The store takes half of it; readers do not notice, though one lags behind what was stored."""

    async def run() -> None:
        data, spool = piece(3, 0, 4 * size), Spool(writer(max_size=2 * size))
        fast, slow = spool.subscribe(), spool.subscribe()
        got = await asyncio.gather(
            consume(spool, fast), consume(spool, slow, 0.002), produce(spool, data, size // 4)
        )
        assert got[0] == got[1] == data
        assert spool.complete and spool.ref is None and not spool.storing

    asyncio.run(run())


class Broken(Body):
    """A body with a bug: `fails` raises what is no StoreError."""

    def __init__(self, fails: str) -> None:
        super().__init__(BodyFiles(Path()), 1 << 30, 1 << 30)
        self.fails = fails

    def write(self, chunk: bytes) -> None:
        if self.fails == "write" and self.size > 2 * INLINE:
            raise RuntimeError("a bug")
        super().write(chunk)

    def finish(self):  # type: ignore[no-untyped-def]
        if self.fails == "finish":
            raise RuntimeError("a bug")
        return super().finish()


@pytest.mark.parametrize("fails", ["write", "finish"])
@pytest.mark.parametrize("size", [10, 5 * INLINE])
def test_a_bug_in_the_store_costs_the_version_and_no_bytes(fails: str, size: int) -> None:
    async def run() -> None:
        data, spool = piece(4, 0, size), Spool(Broken(fails))
        got, _ = await asyncio.gather(consume(spool, spool.subscribe()), produce(spool, data, 8000))
        assert got == data and spool.complete and spool.error is None
        assert (spool.ref is None) is (fails == "finish" or size > 2 * INLINE)

    asyncio.run(run())


def test_without_a_writer_the_producer_waits_for_the_slowest() -> None:
    async def run() -> None:
        data, spool = piece(5, 0, 4 * WINDOW), Spool(None)
        fast, slow = spool.subscribe(), spool.subscribe()
        producer = asyncio.ensure_future(produce(spool, data))
        eager = asyncio.ensure_future(consume(spool, fast))
        await asyncio.sleep(0.05)
        assert spool.received <= WINDOW + CHUNK and not producer.done()
        spool.unsubscribe(slow)
        await asyncio.wait_for(producer, 5)
        assert await eager == data

    asyncio.run(run())


def test_what_is_forgotten_cannot_be_joined() -> None:
    async def run() -> None:
        spool = Spool(None)
        token = spool.subscribe()
        await spool.feed(b"one")
        assert spool.joinable
        stream = spool.read(token)
        assert await anext(stream) == b"one"
        assert not spool.joinable

    asyncio.run(run())


def test_what_nobody_stores_or_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_S", 0.05)

    async def run() -> None:
        spool = Spool(None)
        with pytest.raises(OriginError, match="nobody reads"):
            await asyncio.wait_for(produce(spool, bytes(2 * WINDOW)), 5)
        read_later = Spool(None)
        producer = asyncio.ensure_future(produce(read_later, bytes(2 * WINDOW)))
        await asyncio.sleep(0.02)
        token = read_later.subscribe()
        await asyncio.sleep(0.1)
        assert not producer.done()
        assert len(await consume(read_later, token)) == 2 * WINDOW
        await producer

    asyncio.run(run())


def test_a_failure_comes_after_the_bytes_that_did_arrive() -> None:
    async def run() -> None:
        spool = Spool(writer())
        token = spool.subscribe()
        await spool.feed(b"half")
        spool.fail(OriginError("http_response_incomplete", "cut"))
        stream = spool.read(token)
        assert await anext(stream) == b"half"
        with pytest.raises(OriginError, match="cut"):
            await anext(stream)
        assert not spool.complete and spool.ref is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("act", "settled"),
    [
        (lambda spool: spool.finish(), True),
        (lambda spool: spool.feed(b"x" * 20), False),
        (lambda spool: asyncio.to_thread(lambda: None), False),
    ],
    ids=["complete", "longer than the limit", "too slow"],
)
def test_settled(act: Callable, settled: bool) -> None:  # type: ignore[type-arg]
    async def run() -> None:
        spool = Spool(writer())
        waiting = asyncio.ensure_future(spool.settled(10, 0.2))
        await asyncio.sleep(0)
        await act(spool)
        assert await asyncio.wait_for(waiting, 2) is settled

    asyncio.run(run())


def test_the_last_reader_closes_the_file(tmp_path: Path) -> None:
    store = open_store(tmp_path, max_size=1 << 30, map_size=1 << 26)

    async def run() -> None:
        spool = Spool(store.new_body())
        token = spool.subscribe()
        await spool.feed(bytes(4 * INLINE))
        open_now = len(list((tmp_path / "tmp").iterdir()))
        spool.fail(OriginError("http_response_incomplete", "cut"))
        spool.release()
        assert open_now == 1 and len(await anext(spool.read(token))) == 4 * INLINE
        spool.unsubscribe(token)
        assert not list((tmp_path / "tmp").iterdir())
        with pytest.raises(AssertionError):
            _ = spool.writer

    asyncio.run(run())
    store.close()


class Slow(Body):
    """A disk that takes its time; `closed_early` tells whether the file was closed under the write."""

    def __init__(self) -> None:
        super().__init__(BodyFiles(Path()), 1 << 30, 1 << 30)
        self.go, self.writing, self.closed, self.closed_early = threading.Event(), False, False, False

    def write(self, chunk: bytes) -> None:
        self.writing = True
        self.go.wait(5)
        self.writing = False
        self.closed_early = self.closed

    def close(self) -> None:
        self.closed = True
        super().close()


def test_a_cancelled_producer_does_not_close_the_file_under_its_write() -> None:
    """Else the descriptor could name another file by the time the thread writes to it."""

    async def run() -> None:
        body = Slow()
        spool = Spool(body)
        producer = asyncio.ensure_future(spool.feed(bytes(2 * INLINE)))
        while not body.writing:
            await asyncio.sleep(0.01)
        producer.cancel()
        await asyncio.wait([producer])
        spool.fail(OriginError("connection_terminated", "dropped"))
        spool.release()
        assert not body.closed
        body.go.set()
        while not body.closed:
            await asyncio.sleep(0.01)
        assert not body.closed_early

    asyncio.run(asyncio.wait_for(run(), 5))


def test_a_body_that_cannot_be_read_back_is_no_end(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(writer())
        await spool.feed(b"x" * READ_SIZE)
        spool.writer._buffer = bytearray()  # type: ignore[attr-defined]  # as if the file had been cut
        with pytest.raises(BodyMissing):
            await consume(spool, spool.subscribe())

    asyncio.run(run())
