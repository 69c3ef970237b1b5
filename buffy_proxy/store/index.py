"""`LmdbStore`: the Store over an LMDB index. Reads happen here, in short transactions; writes become
operations (store/ops.py) for the one writing thread (store/writer.py)."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import lmdb

from buffy_proxy.core.model import BodyRef, CacheKey, Resource, Retention, Version
from buffy_proxy.errors import BodyMissing, NotFound, StoreError, StoreFull, StoreUnusable
from buffy_proxy.store import (
    NOTHING,
    BodyReader,
    BodyWriter,
    Due,
    Look,
    Outcome,
    Usage,
    leftovers,
    ops,
)
from buffy_proxy.store.bodies import INLINE_LIMIT, BodyFiles, MemoryReader, Spool
from buffy_proxy.store.env import TOTALS, Index, open_index
from buffy_proxy.store.evict import LOW_MARK, Collection, Evicted
from buffy_proxy.store.records import (
    STAMP_SIZE,
    decode_resource,
    decode_version,
    key_time,
    stamp_at,
)
from buffy_proxy.store.tx import SEQ, Tx, document_key, group_prefix, id_key, read_versions, version_key
from buffy_proxy.store.writer import Again, Operation, Trouble, Writer

P = ParamSpec("P")
R = TypeVar("R")
_SHA256: Final = re.compile("[0-9a-f]{64}")
PAGE: Final = 128
GRACE_S: Final = 120.0
COLLECT_AT_MOST_EVERY_S: Final = 30.0


def _reads(
    method: Callable[Concatenate[LmdbStore, P], R],
) -> Callable[Concatenate[LmdbStore, P], R]:
    """What LMDB raises while reading becomes a StoreError."""

    @functools.wraps(method)
    def wrapper(self: LmdbStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except lmdb.Error as error:
            raise StoreError(f"the index in {self.data_dir} cannot be read: {error}") from error

    return wrapper


class LmdbStore:
    """See `store.Store`. One per process is enough; several over one path share the environment.

    A read keeps the Index in a local variable: should another thread close the store meanwhile, the
    environment stays mapped until that read has ended.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        max_size: int,
        map_size: int,
        inline_limit: int = INLINE_LIMIT,
        on_evicted: Evicted | None = None,
    ) -> None:
        self._on_evicted = on_evicted
        self.data_dir = data_dir.absolute()
        self.trouble = Trouble()
        self._index: Index | None = open_index(data_dir, map_size)
        self.secret = self._index.secret
        self._files = BodyFiles(data_dir, self.trouble.failed)
        leftovers.sweep(self._index, self._files)
        self._max_size = max_size
        self._inline_limit = inline_limit
        self._collecting = False
        self._collect_not_before = 0.0
        self._writer = Writer(self._index, self._files, self.trouble, self._make_room)

    def _use(self) -> Index:
        if (index := self._index) is None:
            raise StoreUnusable("the store was closed")
        return index

    # -- reading --------------------------------------------------------------------------------------------

    @_reads
    def resource(self, resource_id: str) -> Resource | None:
        index, rid = self._use(), id_key(resource_id)
        if rid is None:
            return None
        with index.env.begin() as txn:
            record = txn.get(rid, db=index.db.resources)
        return None if record is None else decode_resource(resource_id, record).resource

    @_reads
    def versions(self, resource_id: str) -> Sequence[Version]:
        index = self._use()
        with index.env.begin() as txn:
            return read_versions(txn, index.db.versions, resource_id)

    @_reads
    def version(self, resource_id: str, name: str) -> Version | None:
        index, key = self._use(), version_key(resource_id, name)
        if key is None:
            return None
        with index.env.begin() as txn:
            record = txn.get(key, db=index.db.versions)
        return None if record is None else decode_version(resource_id, name, record)

    @_reads
    def error_response(self, resource_id: str) -> Version | None:
        index, rid = self._use(), id_key(resource_id)
        if rid is None:
            return None
        with index.env.begin() as txn:
            record = txn.get(rid, db=index.db.errors)
        return None if record is None else decode_version(resource_id, "", record)

    def resources(
        self, *, group: str | None = None, after: str | None = None, skip: int = 0
    ) -> Iterator[Resource]:
        """Raises NotFound when `after` is unknown."""
        prefix = b"" if group is None else group_prefix(group)
        start: bytes | None = prefix
        if after is not None:
            start = prefix + SEQ.pack(self._seq(after) + 1)
        if skip > 0:
            start = self._key_behind(prefix, start or b"", skip)
        while start is not None and (page := self._page(prefix, start)):
            for _, resource in page:
                yield resource
            start = prefix + SEQ.pack(page[-1][0] + 1)

    @_reads
    def _key_behind(self, prefix: bytes, start: bytes, skip: int) -> bytes | None:
        """The key of the order that comes after `skip` others; None if there are not so many."""
        index = self._use()
        with index.env.begin() as txn:
            with txn.cursor(index.db.groups if prefix else index.db.order) as cursor:
                if not (cursor.set_range(start) if start else cursor.first()):
                    return None
                key = next(islice(cursor.iternext(keys=True, values=False), skip, None), None)
        return key if key is not None and key.startswith(prefix) else None

    @_reads
    def _page(self, prefix: bytes, start: bytes) -> list[tuple[int, Resource]]:
        index = self._use()
        page: list[tuple[int, Resource]] = []
        with index.env.begin() as txn:
            with txn.cursor(index.db.groups if prefix else index.db.order) as cursor:
                found = cursor.set_range(start) if start else cursor.first()
                while found and cursor.key().startswith(prefix) and len(page) < PAGE:
                    rid = cursor.value()
                    if (record := txn.get(rid, db=index.db.resources)) is not None:
                        entry = decode_resource(rid.decode(), record)
                        page.append((entry.seq, entry.resource))
                    found = cursor.next()
        return page

    @_reads
    def _seq(self, resource_id: str) -> int:
        index, rid = self._use(), id_key(resource_id)
        with index.env.begin() as txn:
            record = None if rid is None else txn.get(rid, db=index.db.resources)
        if record is None:
            raise NotFound(f"there is no resource {resource_id!r} to go on from")
        return decode_resource(resource_id, record).seq

    @_reads
    def due(self, now: float, limit: int) -> Sequence[Due]:
        index = self._use()
        found: list[Due] = []
        with index.env.begin() as txn, txn.cursor(index.db.due) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                at = key_time(key)
                if at > now or len(found) >= limit:
                    break
                rid, _, name = key[8:].decode().partition("\0")
                found.append(Due(at, rid, name))
        return found

    @_reads
    def next_due(self) -> float | None:
        index = self._use()
        with index.env.begin() as txn, txn.cursor(index.db.due) as cursor:
            at = key_time(cursor.key()) if cursor.first() else float("inf")
        return None if at == float("inf") else at

    @_reads
    def open_body(self, ref: BodyRef) -> BodyReader:
        index = self._use()
        if not _SHA256.fullmatch(ref.digest):
            raise BodyMissing(f"{ref.digest!r} is no sha-256")
        digest = bytes.fromhex(ref.digest)
        with index.env.begin() as txn:
            content = txn.get(digest, db=index.db.inline)
        if content is not None:
            return MemoryReader(content)
        return self._files.open(digest, ref.size)

    @_reads
    def look(self, resource_id: str) -> Look:
        index, rid = self._use(), id_key(resource_id)
        if rid is None:
            return NOTHING
        db = index.db
        with index.env.begin() as txn:
            versions = read_versions(txn, db.versions, resource_id)
            error = txn.get(rid, db=db.errors)
            content = bool(versions) or error is not None
            ordered = content and txn.get(rid, db=db.ordered) is not None
            record = txn.get(rid, db=db.resources) if ordered else None
            stamps = txn.get(b"stamps", db=db.meta)
        at = stamp_at(rid)
        return Look(
            versions,
            None if error is None else decode_version(resource_id, "", error),
            None if record is None else decode_resource(resource_id, record).resource,
            None if stamps is None else stamps[at : at + STAMP_SIZE],
        )

    def peek(self, resource: bytes, digest: bytes | None) -> tuple[bytes | None, bytes | None]:
        index = self._use()
        try:  # as `_reads`, without its call: this is all that a hit reads
            with index.env.begin() as txn:
                content = None if digest is None else txn.get(digest, db=index.db.inline)
                stamps = txn.get(b"stamps", db=index.db.meta)
        except lmdb.Error as error:
            raise StoreError(f"the index in {self.data_dir} cannot be read: {error}") from error
        at = stamp_at(resource)
        return None if stamps is None else stamps[at : at + STAMP_SIZE], content

    @_reads
    def usage(self) -> Usage:
        index = self._use()
        with index.env.begin() as txn:
            resources, versions, bodies, size, _ = TOTALS.unpack(txn.get(b"totals", db=index.db.meta))
        return Usage(resources, versions, bodies, size, self._max_size)

    @_reads
    def counters(self, name: str) -> Mapping[str, int]:
        index, key = self._use(), id_key(name)
        with index.env.begin() as txn:
            stored = None if key is None else txn.get(key, db=index.db.counters)
        return json.loads(stored) if stored else {}

    @_reads
    def document(self, kind: str, key: str) -> bytes | None:
        index, name = self._use(), document_key(kind, key)
        with index.env.begin() as txn:
            return None if name is None else txn.get(name, db=index.db.documents)

    def documents(
        self, kind: str, *, prefix: str = "", after: str | None = None
    ) -> Iterator[tuple[str, bytes]]:
        start = prefix.encode() if after is None else after.encode() + b"\0"
        while page := self._documents_page(kind.encode() + b"\0", prefix.encode(), start):
            yield from page
            start = page[-1][0].encode() + b"\0"

    @_reads
    def _documents_page(self, kind: bytes, prefix: bytes, start: bytes) -> list[tuple[str, bytes]]:
        index = self._use()
        page: list[tuple[str, bytes]] = []
        with index.env.begin() as txn, txn.cursor(index.db.documents) as cursor:
            found = cursor.set_range(kind + start)
            while found and cursor.key().startswith(kind + prefix) and len(page) < PAGE:
                page.append((cursor.key()[len(kind) :].decode(), cursor.value()))
                found = cursor.next()
        return page

    # -- writing --------------------------------------------------------------------------------------------

    def new_body(self) -> BodyWriter:
        self._use()
        try:
            room = self._files.has_room()
        except OSError as error:
            raise StoreFull(f"the data directory {self.data_dir} cannot be used: {error}") from error
        if not room:
            self.trouble.failed(why := f"the disk under {self.data_dir} is full")
            raise StoreFull(why)
        return Spool(self._files, self._inline_limit, self._max_size)

    def add_version(
        self,
        key: CacheKey,
        version: Version,
        body: BodyWriter,
        retention: Retention,
        *,
        now: float,
        patient: bool = False,
    ) -> Future[Outcome]:
        def run(tx: Tx, spool: Spool) -> Outcome:
            return ops.add_version(tx, key, version, spool, retention, now)

        return self._add(body, run, patient)

    def hurry(self) -> None:
        self._writer.hurry()

    def put_error(self, key: CacheKey, version: Version, body: BodyWriter, *, now: float) -> Future[None]:
        return self._add(body, lambda tx, spool: ops.put_error(tx, key, version, spool, now))

    def _add(self, body: BodyWriter, run: Callable[[Tx, Spool], R], patient: bool = False) -> Future[R]:
        if not isinstance(body, Spool):
            raise TypeError("the body must come from this store's new_body()")
        future: Future[R] = Future()
        try:
            body.take()
        except StoreError as error:
            future.set_exception(error)
            return future
        operation = Operation(
            lambda tx: run(tx, body), body.discard, stores=True, patient=patient, future=future
        )
        return self._writer.submit(operation)

    def run(self, run: Callable[[Tx], R | Again]) -> Future[R]:
        """Runs a function in the writing thread, in a transaction of its own (see store/bulk.py)."""
        return self._writer.submit(Operation(run))

    def update_version(self, version: Version) -> Future[Version]:
        return self.run(lambda tx: ops.update_version(tx, version))

    def invalidate(self, resource_id: str) -> Future[int]:
        return self.run(lambda tx: ops.invalidate(tx, resource_id, time.time()))

    def schedule(self, resource_id: str, name: str, refresh_at: float | None) -> Future[None]:
        return self.run(lambda tx: ops.schedule(tx, resource_id, name, refresh_at))

    def set_pin(
        self, resource_id: str, name: str, pinned_until: float | None, *, now: float
    ) -> Future[Version]:
        return self.run(lambda tx: ops.set_pin(tx, resource_id, name, pinned_until))

    def set_tag(self, resource_id: str, name: str, tag: str, present: bool, *, now: float) -> Future[Version]:
        return self.run(lambda tx: ops.set_tag(tx, resource_id, name, tag, present))

    def set_policy(
        self, key: CacheKey, policy: Mapping[str, Any] | None, info: Mapping[str, Any] | None, *, now: float
    ) -> Future[Resource]:
        return self.run(lambda tx: ops.set_policy(tx, key, policy, info, now))

    def delete(self, resource_id: str, name: str | None = None) -> Future[int]:
        return self.run(lambda tx: ops.delete(tx, resource_id, name, time.time()))

    def touch(self, resource_ids: Iterable[str], now: float) -> Future[None]:
        ids = tuple(resource_ids)
        return self.run(lambda tx: ops.touch(tx, ids, now))

    def put_documents(self, changes: Sequence[tuple[str, str, bytes | None]]) -> Future[None]:
        copy = tuple(changes)
        return self.run(lambda tx: ops.put_documents(tx, copy))

    def count(self, name: str, amounts: Mapping[str, int]) -> Future[None]:
        copy = dict(amounts)
        return self.run(lambda tx: ops.count(tx, name, copy))

    def gc(self, now: float, grace_s: float = GRACE_S) -> Future[int]:
        run = Collection(now, grace_s, self._max_size, self._on_evicted)
        return self._writer.submit(Operation(run, run.tell))

    def _make_room(self, map_full: bool) -> Operation[int] | None:
        """Asked by the writer after commits: a collection, if one is needed. What only has protected
        versions cannot be evicted; then the next attempt waits a while."""
        if self._collecting or (index := self._index) is None:
            return None
        if time.monotonic() < self._collect_not_before or not (map_full or self._over(index)):
            return None
        self._collecting = True
        run = Collection(time.time(), GRACE_S, self._max_size, self._on_evicted, squeeze=map_full)

        def after() -> None:
            self._collected()
            run.tell()

        return Operation(run, after)

    def _over(self, index: Index) -> bool:
        with index.env.begin() as txn:
            size = TOTALS.unpack(txn.get(b"totals", db=index.db.meta))[3]
            crowded = index.uses_more_than(txn, index.page_limit * LOW_MARK)
            with txn.cursor(index.db.trash) as cursor:
                trash = cursor.first() and key_time(cursor.key()) <= time.time() - GRACE_S
        return bool(trash) or size > self._max_size or crowded

    def _collected(self) -> None:
        self._collecting = False
        if self._index is not None and self._over(self._index):
            self._collect_not_before = time.monotonic() + COLLECT_AT_MOST_EVERY_S

    def close(self) -> None:
        self._writer.close()
        self._index = None
