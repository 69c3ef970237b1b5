"""The one writing thread of a process.

Operations wait in a queue; whatever waits is run in one write transaction, each operation in a child
transaction of its own, so that one which fails takes no other with it. Futures are resolved after the commit
is durable. A commit costs several times what an operation does, so a *patient* operation waits a moment for
others, unless `hurry` is called or an impatient one comes. An operation may take several turns (eviction): it
returns AGAIN and goes to the queue's end.

    queued ──> running in a child ──> committed ──> future resolved
                     └─> child aborted, its files removed ──> future raises

When the commit itself fails, nothing of the group is stored and every future in it raises.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import lmdb

from buffy_proxy.errors import BuffyError, StoreError, StoreFull
from buffy_proxy.store.bodies import NO_ROOM, BodyFiles
from buffy_proxy.store.env import Index
from buffy_proxy.store.tx import MapFull, Tx

log = logging.getLogger("buffy.store")
T = TypeVar("T")
GROUP_LIMIT: Final = 256
PATIENCE_S: Final = 0.004
CLOSE_TIMEOUT_S: Final = 10.0


class Again:
    """What an operation returns that wants another turn."""


AGAIN: Final = Again()


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """`run` is called in the writer's thread with the operation's Tx. `after` is called at the end, whatever
    became of it. `stores`: success shows that storing works (as a mere touch would not). `patient`: see
    above."""

    run: Callable[[Tx], T | Again]
    after: Callable[[], None] = lambda: None
    stores: bool = False
    patient: bool = False
    future: Future[T] = field(default_factory=Future)


class Trouble:
    """Says once that storing stopped, and once that it works again; not once a request.

    An outbreak ends with the first success at least `quiet_s` after the last failure, so that a disk at
    its limit, where small bodies still fit, does not fill the log.
    """

    def __init__(self, quiet_s: float = 5.0) -> None:
        self.quiet_s = quiet_s
        self._failed_at: float | None = None
        self._lock = threading.Lock()

    def failed(self, why: str) -> None:
        with self._lock:
            first, self._failed_at = self._failed_at is None, time.monotonic()
        if first:
            log.warning("storing stopped: %s; responses are passed on without being stored", why)

    def worked(self) -> None:
        if self._failed_at is None:
            return
        with self._lock:
            over = self._failed_at is not None and time.monotonic() - self._failed_at >= self.quiet_s
            if over:
                self._failed_at = None
        if over:
            log.warning("storing works again")


class Writer:
    """`followup` is asked for more work (eviction) after each group that stored or tried to; it is told
    whether the map was full."""

    def __init__(
        self,
        index: Index,
        files: BodyFiles,
        trouble: Trouble,
        followup: Callable[[bool], Operation[Any] | None],
    ) -> None:
        self._index = index
        self._files = files
        self._trouble = trouble
        self._followup = followup
        self._queue: queue.SimpleQueue[Operation[Any] | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="buffy-store-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[T]) -> Future[T]:
        with self._closing:
            if not self._closed:
                self._queue.put(operation)
                if not operation.patient:
                    self._hurry.set()
                return operation.future
        self._finish(operation, StoreError("the store is closed"))
        return operation.future

    def hurry(self) -> None:
        """Somebody waits for what was handed in."""
        self._hurry.set()

    def close(self) -> None:
        """Waits for what was handed in before. Idempotent."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
                self._hurry.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_TIMEOUT_S)

    # -- in the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            live = [op for op in group if self._claim(op)]
            if live:
                self._commit(live)
        del self._index  # the environment closes when nobody uses it any more

    def _next_group(self) -> tuple[list[Operation[Any]], bool]:
        """At least one operation, and what else waits (up to a limit); False: closed, and all is done."""
        first = self._queue.get()
        if first is not None and first.patient:
            self._hurry.wait(PATIENCE_S)
        self._hurry.clear()
        group: list[Operation[Any]] = [] if first is None else [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < GROUP_LIMIT and first is not None:
                first = self._queue.get_nowait()
                group += [] if first is None else [first]
        return group, first is not None

    def _claim(self, operation: Operation[Any]) -> bool:
        if operation.future.running() or operation.future.set_running_or_notify_cancel():
            return True
        self._tidy(operation)
        return False

    def _commit(self, group: list[Operation[Any]]) -> None:
        results: list[tuple[Operation[Any], Any]] = []
        placed: list[bytes] = []
        try:
            with self._index.env.begin(write=True) as txn:
                results += [(operation, self._run(operation, txn, placed)) for operation in group]
                self._files.sync(placed)
        except Exception as error:
            self._remove_unreferenced(placed)
            failure = self._translate(error)
            results = [(operation, failure) for operation in group]
        if any(op.stores and not isinstance(result, Exception) for op, result in results):
            self._trouble.worked()
        for operation, result in results:
            self._resolve(operation, result)
        if any(op.stores for op, _ in results):
            self._make_room(any(isinstance(result, MapFull) for _, result in results))

    def _run(self, operation: Operation[Any], parent: Any, placed: list[bytes]) -> Any:
        """The operation's result, or its failure as an exception object; then nothing of it remains."""
        child = self._index.env.begin(write=True, parent=parent)
        tx = Tx(child, self._index, self._files)
        try:
            result = operation.run(tx)
            tx.seal()
            child.commit()
        except Exception as error:
            child.abort()
            tx.undo_files()
            return self._translate(error)
        placed += tx.placed
        return result

    def _remove_unreferenced(self, placed: list[bytes]) -> None:
        """After a failed commit: files it had put in place, unless a record names them by now."""
        with contextlib.suppress(Exception):
            with self._index.env.begin(write=True, db=self._index.db.bodies) as txn:
                for digest in placed:
                    if txn.get(digest) is None:
                        self._files.remove(digest)

    def _resolve(self, operation: Operation[Any], result: Any) -> None:
        if result is AGAIN:
            self._continue(operation)
        else:
            self._finish(operation, result)

    def _finish(self, operation: Operation[Any], result: Any) -> None:
        self._tidy(operation)
        if isinstance(result, Exception):
            operation.future.set_exception(result)
        else:
            operation.future.set_result(result)

    def _tidy(self, operation: Operation[Any]) -> None:
        """Nothing that goes wrong while tidying up may end the thread."""
        try:
            operation.after()
        except Exception as error:
            log.error("tidying up after a write failed: %r", error, exc_info=error)

    def _make_room(self, map_full: bool) -> None:
        try:
            more = self._followup(map_full)
        except Exception as error:
            self._translate(error)
            return
        if more is not None:
            self._continue(more)

    def _continue(self, operation: Operation[Any]) -> None:
        """Another turn; a closing writer leaves the rest to the next process that opens the store."""
        with self._closing:
            if not self._closed:
                self._queue.put(operation)
                return
        self._finish(operation, StoreError("the store was closed meanwhile"))

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, StoreFull) or no_room(error):
            self._trouble.failed(str(error))
            kind = MapFull if isinstance(error, lmdb.MapFullError) else StoreFull
            return error if isinstance(error, StoreFull) else kind(f"nothing was stored: {error}")
        if isinstance(error, BuffyError):
            return error
        log.error("a write to the store failed: %r", error, exc_info=error)
        return StoreError(f"nothing was stored: {error!r}")


def no_room(error: Exception) -> bool:
    """Whether an error of LMDB or the operating system means: no room, or the disk does not take it."""
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError | lmdb.TxnFullError):
        return True
    number = getattr(error, "code", None) if isinstance(error, lmdb.Error) else getattr(error, "errno", None)
    return number in NO_ROOM
