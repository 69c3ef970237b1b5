"""Opening a data directory: layout, LMDB environment, format number, secret.

    DIR/index/data.mdb, lock.mdb   the LMDB environment
    DIR/index/open.lock            flock: shared while a process has the index open
    DIR/bodies/ab/abcd…            body files, named by their sha-256
    DIR/tmp/PID-…                  bodies that are still arriving

The map size is chosen when the index is created and kept in it, so that every process maps the same. It
grows only when a process opens the store alone (exclusive flock) with a larger one; it is never resized
while mapped. LMDB forbids opening an environment twice in a process, and using it after fork: hence one
`Index` per path and process, shared by weak reference, and closed when the last user lets go of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import lmdb

from buffy_proxy.errors import StoreUnusable
from buffy_proxy.store.bodies import Handle
from buffy_proxy.store.records import has_policy

INDEX_FORMAT: Final = 2
MAX_READERS: Final = 1022
_SMALLEST_MAP: Final = 1 << 20
_SMALLEST_FALLBACK: Final = 64 << 20
_LOCK_BYTES: Final = 128 + 64 * MAX_READERS
_RESERVE: Final = 4096
"""Pages kept free in the map. A commit copies each page that it changes, and the old ones come back two
commits later: a turn of eviction may need some hundreds of pages before it gives back any."""
_ADDITION: Final = 64
"""Pages that one addition takes at most, about: its body in the index and a copy of each page it changes."""
_ATTEMPTS: Final = 5
_ALREADY_OPEN: Final = "already open in this process"
_FORMAT: Final = struct.Struct("<I")
TOTALS: Final = struct.Struct("<5Q")
"""resources, versions, bodies, body bytes, next seq: kept in `meta`, changed with what they count."""


@dataclass(frozen=True, slots=True)
class Databases:
    """The named databases. Times in keys are `records.time_key`, seq is 8 bytes big-endian, ids are ASCII.

    meta      format, secret, totals, stamps (records.STAMPS: what changed when, by hash of the id)
    resources id → resource record            ordered   id → ""   (of resources with a policy of their own)
    order     seq → id                        groups  group digest + seq → id
    versions  id NUL name → version record    due     refresh_at + id NUL name → ""
    errors    id → version record             stale   fresh_until + id → ""     (of error responses)
    lru       lru_at + id → ""                (only resources that have something to evict)
    bodies    digest → references, size, trashed_at
    inline    digest → content                trash   trashed_at + digest → ""
    counters  name → JSON
    documents kind NUL key → what a part of Buffy that is not the store keeps there
    """

    meta: Any
    resources: Any
    ordered: Any
    order: Any
    groups: Any
    versions: Any
    due: Any
    errors: Any
    stale: Any
    lru: Any
    bodies: Any
    inline: Any
    trash: Any
    counters: Any
    documents: Any


class Index:
    """One open environment. Up to `page_limit` pages may be used by additions; deletions may use the rest."""

    def __init__(self, env: Any, path: Path, alone: bool) -> None:
        self.env = env
        self.path = path
        self.lock: Handle | None = None
        self.db = Databases(**{f.name: env.open_db(f.name.encode()) for f in fields(Databases)})
        self._all = [getattr(self.db, f.name) for f in fields(Databases)]
        self.map_pages: int = env.info()["map_size"] // env.stat()["psize"]
        reserve = min(max(self.map_pages // 16, _RESERVE), self.map_pages // 2)
        self.page_limit = self.map_pages - reserve
        self._look_every = max(1, min(reserve // _ADDITION, 64))
        self._until_look = 0
        self.secret = self._settle(alone)

    def _settle(self, alone: bool) -> bytes:
        """Checks the format number; a new index gets number, secret and totals, an older one (which nobody
        else may have open) what it lacks. Returns the secret."""
        with self.env.begin(db=self.db.meta) as txn:
            stored, secret = txn.get(b"format"), txn.get(b"secret")
        if stored is None:
            return self._initialise()
        if (number := _FORMAT.unpack(stored)[0]) > INDEX_FORMAT:
            raise StoreUnusable(
                f"the store in {self.path.parent} has format {number}, this Buffy reads up to"
                f" {INDEX_FORMAT}: use the newer Buffy that made it, or another data directory"
            )
        if number < INDEX_FORMAT:
            if not alone:
                raise StoreUnusable(f"an older Buffy uses the store in {self.path.parent}: stop it first")
            self._upgrade()
        return bytes(secret)

    def _initialise(self) -> bytes:
        secret = secrets.token_bytes(32)
        with self.env.begin(write=True, db=self.db.meta) as txn:
            txn.put(b"secret", secret)
            txn.put(b"totals", TOTALS.pack(0, 0, 0, 0, 0))
            txn.put(b"format", _FORMAT.pack(INDEX_FORMAT))
        return secret

    def _upgrade(self) -> None:
        """From format 1, which has no `ordered`: one walk over the resources, about 1 µs each."""
        with self.env.begin(write=True) as txn:
            with txn.cursor(self.db.resources) as cursor:
                ordered = [rid for rid, record in cursor if has_policy(record)]
            for rid in ordered:
                txn.put(rid, b"", db=self.db.ordered)
            txn.put(b"format", _FORMAT.pack(INDEX_FORMAT), db=self.db.meta)

    def keep_map_size(self) -> None:
        """Any commit writes a grown map size into the meta page, where other processes find it."""
        with self.env.begin(write=True, db=self.db.meta) as txn:
            txn.put(b"format", _FORMAT.pack(INDEX_FORMAT))

    def has_room(self, txn: Any) -> bool:
        """Whether an addition may begin. Looks once for as many as the reserve has room for by far. Called
        under the write lock."""
        self._until_look -= 1
        if self._until_look > 0:
            return True
        room = not self.uses_more_than(txn, self.page_limit)
        self._until_look = self._look_every if room else 0
        return room

    def uses_more_than(self, txn: Any, pages: float) -> bool:
        """Whether more than so many pages hold data. Far below, the length of the file says so at once."""
        if self.env.info()["last_pgno"] < pages / 2:
            return False
        return self.pages_used(txn) > pages

    def pages_used(self, txn: Any) -> int:
        """Pages that hold data (a dozen counters in LMDB's own records, no walk)."""
        stats = [txn.stat(db) for db in self._all]
        return sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)


_open: weakref.WeakValueDictionary[Path, Index] = weakref.WeakValueDictionary()
_opening = threading.Lock()
_inherited: list[Any] = []


class _Forked:
    """Stands in for the environment in a process that inherited it by fork."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnusable(
            "the store was opened before this process forked: open it in a new process instead"
        )


def _after_fork() -> None:
    """The environment is not closed either: that is for the parent to do."""
    for index in _open.values():
        _inherited.append(index.env)
        index.env = _Forked()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)


def open_index(data_dir: Path, map_size: int) -> Index:
    """The index under `data_dir`, created if need be. Raises StoreUnusable, saying what to do."""
    path = data_dir.absolute() / "index"
    try:
        with _opening:
            for part in (data_dir, path, data_dir / "bodies", data_dir / "tmp"):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _shared(path.resolve(), map_size)
    except (OSError, lmdb.Error) as error:
        raise StoreUnusable(f"the store in {data_dir} cannot be opened: {_advice(error)}") from error


def _shared(path: Path, map_size: int) -> Index:
    """The Index over this path that the process has already, or a fresh one. Where another thread is just
    letting go of it, LMDB may not have closed the environment yet: that takes a moment."""
    for attempt in range(_ATTEMPTS):
        if (index := _open.get(path)) is not None:
            return index
        try:
            _open[path] = index = _open_fresh(path, map_size)
            return index
        except lmdb.Error as error:
            if _ALREADY_OPEN not in str(error) or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(0.01)
    raise AssertionError("unreachable")


def _open_fresh(path: Path, map_size: int) -> Index:
    lock = Handle(os.open(path / "open.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    env = None
    try:
        alone = _flock_alone_or_shared(lock.fd)
        if not (path / "data.mdb").exists():
            _reserve_lock_file(path / "lock.mdb")
        stored = _stored_map_size(path)
        grow = alone and stored < max(map_size, _SMALLEST_MAP)
        env = _map(path, max(map_size, _SMALLEST_MAP) if grow else 0)
        index = Index(env, path, alone)
        if grow and stored:
            index.keep_map_size()
        fcntl.flock(lock.fd, fcntl.LOCK_SH)
        env.reader_check()
    except BaseException:
        if env is not None:
            env.close()
        raise
    index.lock = lock
    return index


def _flock_alone_or_shared(fd: int) -> bool:
    """True: nobody else has the index open, and the lock is exclusive. False: waited for a shared one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(fd, fcntl.LOCK_SH)
        return False
    return True


def _map(path: Path, wanted: int) -> Any:
    """Maps the index with `wanted` bytes (0: what it has already), less where address space is limited."""
    for size in _sizes(wanted):
        with contextlib.suppress(lmdb.MemoryError, MemoryError):
            return lmdb.open(
                str(path), map_size=size, max_dbs=32, max_readers=MAX_READERS, max_spare_txns=16,
                mode=0o600, readahead=False,
            )  # fmt: skip
    raise StoreUnusable(f"no address space for the index in {path}: raise `ulimit -v` or lower map_size")


def _sizes(size: int) -> Iterator[int]:
    yield size
    attempt = (size or 64 << 30) // 2
    while attempt >= _SMALLEST_FALLBACK:
        yield attempt
        attempt //= 2


def _stored_map_size(path: Path) -> int:
    """What the meta pages say (0 for a new index): opened with 0, LMDB takes the size from there."""
    if not (path / "data.mdb").exists():
        return 0
    with contextlib.suppress(lmdb.MemoryError):
        with lmdb.open(str(path), map_size=0, readonly=True, lock=False) as env:
            return int(env.info()["map_size"])
    return 0


def _reserve_lock_file(path: Path) -> None:
    """Gives the lock file its blocks at once: LMDB maps it shared and sparse, so on a disk that fills up
    later the first touch of a further reader slot would kill the process with SIGBUS."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(fd).st_size == 0:
            os.posix_fallocate(fd, 0, _LOCK_BYTES)
    finally:
        os.close(fd)


def _advice(error: Exception) -> str:
    text = str(error)
    if isinstance(error, PermissionError):
        return f"{text}; it must belong to the user who runs Buffy"
    if _ALREADY_OPEN in text:
        return f"{text} A process that forked after opening it must not use it: start a new process instead"
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
        return f"{text}; restore a backup, or move the directory away to start afresh"
    return text
