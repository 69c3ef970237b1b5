"""A body on its way in, read by many while it arrives.

One producer feeds it; any number of readers follow, each from byte 0 at its own pace. Behind it stands a
`BodyWriter` of the store, or nothing when the response is not to be stored:

    received  = bytes fed so far
    flushed   = bytes readable from the writer            0 ≤ flushed ≤ received
    in memory = [flushed, received), at most WINDOW (plus one chunk)

With a writer the producer waits for the disk; without one, or after the writer failed, it waits for the
slowest reader (or for the first one to come). So memory is bounded in every case, and a full disk costs the
version but no client's bytes. Once bytes were forgotten, nobody can join any more: see `joinable`.

All methods run in one event loop; only the writer's disk work runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable

from buffy_proxy.core.model import BodyRef
from buffy_proxy.errors import BodyMissing, OriginError, StoreError
from buffy_proxy.store import BodyWriter

log = logging.getLogger("buffy.spool")

WINDOW = 1 << 20
INLINE = 32 * 1024
"""Bodies up to this size are written in the event loop: a thread hop costs more."""
READ_SIZE = 256 * 1024
UNREAD_S = 10.0
"""A body that is not stored and that nobody reads for so long is given up: nobody will come for it."""


class Spool:
    """See the module's docstring. `error` set means the body will never be complete."""

    def __init__(self, writer: BodyWriter | None) -> None:
        self._writer = writer
        self.storing = writer is not None
        self.received = 0
        self.complete = False
        self.error: Exception | None = None
        self.ref: BodyRef | None = None
        self._flushed = 0
        self._memory: deque[bytes] = deque()
        self._readers: dict[object, int] = {}
        self._changed = _Signal()
        self._released = False
        self._busy: asyncio.Future[None] | None = None
        self.joinable = True

    # -- the producer's side ------------------------------------------------------------------------------
    async def feed(self, chunk: bytes) -> None:
        """Appends, and waits while too much is held in memory. Raises OriginError when nobody reads it."""
        self._memory.append(chunk)
        self.received += len(chunk)
        self._changed.notify()
        if self.storing:
            await self._flush()
        while not self.storing and self._held_back():
            await self._a_reader()

    async def finish(self) -> BodyRef | None:
        """The body is whole. Returns its name if `writer` is ready for add_version, else None."""
        if self.storing and self._writer is not None:
            await self._store(self._finish)
        self.complete = True
        self._changed.notify()
        return self.ref

    def fail(self, error: Exception) -> None:
        """The body ended early; readers get what arrived and then this error."""
        self.error = error
        self.stop_storing()
        self._changed.notify()

    def stop_storing(self) -> None:
        """From now on the body is only passed on. What was flushed stays readable for readers that lag."""
        self.storing = False

    @property
    def writer(self) -> BodyWriter:
        assert self._writer is not None
        return self._writer

    def release(self) -> None:
        """The producer is done with it; the last reader closes the file."""
        self._released = True
        self._close_if_unused()

    async def settled(self, limit: int, timeout_s: float) -> bool:
        """Waits until the body is complete, failed or longer than `limit` (bytes). True if complete."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.complete and self.error is None and self.received <= limit:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.complete

    def whole(self) -> bytes | None:
        """The body, where it is complete, short and all here."""
        if not self.complete or self.received > INLINE:
            return None
        if self._flushed == 0:
            return b"".join(self._memory)
        return self._writer.read_at(0, self.received) if self.storing and self._writer else None

    # -- the readers' side --------------------------------------------------------------------------------
    def subscribe(self) -> object:
        """Counts a reader from now on; give the token to `read` or `unsubscribe`."""
        token = object()
        self._readers[token] = 0
        self._changed.notify()
        return token

    def unsubscribe(self, token: object) -> None:
        self._readers.pop(token, None)
        self._changed.notify()
        self._close_if_unused()

    async def read(self, token: object) -> AsyncIterator[bytes]:
        """All bytes, as they come. Raises what `fail` was given, after the bytes that did arrive."""
        while token in self._readers:
            position = self._readers[token]
            if position < self.received:
                chunk = self._bytes_at(position)
                if not chunk:
                    raise BodyMissing("a body on its way into the store cannot be read")
                self._readers[token] = position + len(chunk)
                if not self.storing:
                    self._forget_what_all_have()
                yield chunk
            elif self.error is not None:
                raise self.error
            elif self.complete:
                return
            else:
                await self._changed.wait()

    # -- inside -------------------------------------------------------------------------------------------
    async def _flush(self) -> None:
        batch = b"".join(self._memory) if len(self._memory) > 1 else self._memory[0]
        writer = self.writer
        if await self._store(lambda: writer.write(batch)):
            self._flushed += len(batch)
            self._memory.clear()

    def _finish(self) -> None:
        self.ref = self.writer.finish()

    async def _store(self, work: Callable[[], None]) -> bool:
        """Work on the disk; whatever it raises costs the version, not the client's bytes."""
        try:
            if self.received <= INLINE:
                work()
            else:
                await self._in_thread(work)
        except StoreError:
            self.storing = False
        except Exception:
            log.exception("cannot write a body; it is passed on and not stored")
            self.storing = False
        return self.storing

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """A cancelled producer leaves its thread at work: only then may the file be closed."""
        self._busy = asyncio.ensure_future(asyncio.to_thread(work))
        self._busy.add_done_callback(lambda _: self._close_if_unused())
        await asyncio.shield(self._busy)

    async def _a_reader(self) -> None:
        """Waits for readers to go on, or for the first one to come."""
        if self._readers:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(UNREAD_S):
                await self._changed.wait()
        except TimeoutError as error:
            raise OriginError("connection_terminated", "nobody reads this response") from error

    def _held_back(self) -> bool:
        self._forget_what_all_have()
        return self.received - self._flushed > WINDOW

    def _forget_what_all_have(self) -> None:
        """Without a writer, memory holds what the slowest reader still lacks."""
        slowest = min(self._readers.values(), default=0 if self.joinable else self.received)
        freed = False
        while self._memory and self._flushed + len(self._memory[0]) <= slowest:
            self._flushed += len(self._memory.popleft())
            freed = True
        if freed:
            self.joinable = False
            self._changed.notify()

    def _bytes_at(self, position: int) -> bytes:
        if position < self._flushed:
            return self.writer.read_at(position, min(READ_SIZE, self._flushed - position))
        start = self._flushed
        for chunk in self._memory:
            if position < start + len(chunk):
                return chunk[position - start :] if position > start else chunk
            start += len(chunk)
        raise AssertionError("position beyond what was received")

    def _close_if_unused(self) -> None:
        busy = self._busy is not None and not self._busy.done()
        if self._released and not self._readers and not busy and self._writer is not None:
            if self.ref is None:
                self._writer.abort()
            self._writer.close()
            self._writer = None


class _Signal:
    """Wakes all who wait now. An asyncio.Event would need clearing by the last one to see it."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future
