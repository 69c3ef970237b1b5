"""Which worker asks the origin for which resource right now, in memory that all workers of a server share.

    owners   one byte a slot: the number of the worker whose flight it is, 0 for a free slot
    digests  16 bytes a slot: of the resource's id
    marks    4 bytes each: how often a resource of that hash was changed by an unsafe request

A resource has NEIGHBOURS slots that it may be in. Where all are taken it gets none, and is fetched without
the others knowing. Workers change a neighbourhood only under a record lock on its bytes, which the kernel
frees when a process dies; the owner is written last, so a process that is killed between two writes leaves a
free slot. What a dead worker had claimed is cleared by the supervisor.

A mark that two resources share makes one of them be validated once too often, and nothing worse.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

WORKERS_MAX: Final = 64
SLOTS: Final = 1 << 14
NEIGHBOURS: Final = 16
MARKS: Final = 1 << 12

_DIGEST: Final = 16
_DIGESTS_AT: Final = SLOTS
_MARKS_AT: Final = SLOTS * (1 + _DIGEST)
_MARK: Final = struct.Struct("=I")
_SIZE: Final = _MARKS_AT + MARKS * _MARK.size


def make_table() -> int:
    """A file descriptor of an empty table, for `FlightTable` in this process and those that inherit it."""
    fd = os.memfd_create("buffy-flights")
    os.ftruncate(fd, _SIZE)
    return fd


class FlightTable:
    """`worker` is the number of this process, from 1; 0 for the supervisor, which claims nothing.

    The descriptor stays open: record locks end when their process closes any descriptor of the file.
    """

    def __init__(self, fd: int, worker: int) -> None:
        self.worker = worker
        self._fd = fd
        self._map = mmap.mmap(fd, _SIZE)

    def claim(self, resource_id: str) -> int | None:
        """The number of the worker that flies for this resource: this one's own if nobody did. None: there
        is no room."""
        digest = _digest(resource_id)
        first = _neighbourhood(digest)
        with self._locked(first, NEIGHBOURS):
            slot, free = self._find(digest, first)
            if slot is not None:
                return self._map[slot]
            if free is None:
                return None
            at = _DIGESTS_AT + free * _DIGEST
            self._map[at : at + _DIGEST] = digest
            self._map[free] = self.worker
            return self.worker

    def owner(self, resource_id: str) -> int:
        """The worker that has claimed it, 0 for none. Takes no lock: it may be another one by now."""
        digest = _digest(resource_id)
        slot, _ = self._find(digest, _neighbourhood(digest))
        return 0 if slot is None else self._map[slot]

    def release(self, resource_id: str, worker: int | None = None) -> None:
        """Nobody flies for it any more, if it was `worker` (this one) who did."""
        digest = _digest(resource_id)
        first = _neighbourhood(digest)
        with self._locked(first, NEIGHBOURS):
            slot, _ = self._find(digest, first)
            if slot is not None and self._map[slot] == (self.worker if worker is None else worker):
                self._map[slot] = 0

    def clear(self, worker: int) -> None:
        """That worker is dead."""
        with self._locked(0, SLOTS):
            owners = self._map[:SLOTS]
            self._map[:SLOTS] = owners.replace(bytes((worker,)), b"\0")

    def mark(self, resource_id: str) -> int:
        """Another number after each `outdate` of this resource, by any worker."""
        number: int = _MARK.unpack_from(self._map, _mark_at(_digest(resource_id)))[0]
        return number

    def outdate(self, resource_id: str) -> None:
        """An unsafe request has changed this resource: what is on its way was asked for before."""
        at = _mark_at(_digest(resource_id))
        with self._locked(at, _MARK.size):
            number = _MARK.unpack_from(self._map, at)[0]
            _MARK.pack_into(self._map, at, (number + 1) & 0xFFFFFFFF)

    def _find(self, digest: bytes, first: int) -> tuple[int | None, int | None]:
        """The slot that holds this digest, else one that is free."""
        owners = self._map[first : first + NEIGHBOURS]
        start = _DIGESTS_AT + first * _DIGEST
        digests = self._map[start : start + NEIGHBOURS * _DIGEST]
        for n, owner in enumerate(owners):
            if owner and digests[n * _DIGEST : (n + 1) * _DIGEST] == digest:
                return first + n, None
        free = owners.find(0)
        return None, None if free < 0 else first + free

    @contextmanager
    def _locked(self, start: int, length: int) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, length, start)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, length, start)


def _digest(resource_id: str) -> bytes:
    return blake2b(resource_id.encode(), digest_size=_DIGEST).digest()


def _neighbourhood(digest: bytes) -> int:
    return int.from_bytes(digest[:4], "big") % (SLOTS // NEIGHBOURS) * NEIGHBOURS


def _mark_at(digest: bytes) -> int:
    return _MARKS_AT + int.from_bytes(digest[4:8], "big") % MARKS * _MARK.size
