"""One operation's view of the index: small steps that keep records, indexes, references and totals in step.

Everything here runs under LMDB's write lock, which is global across processes: nobody else can be about to
reference or to unlink a body meanwhile. A `Tx` belongs to one operation; when that fails, its (child)
transaction is aborted and `undo_files` removes the body files it had put in place.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Any, Final

from buffy_proxy.core.model import CacheKey, Resource, Version
from buffy_proxy.errors import StoreError, StoreFull
from buffy_proxy.store.bodies import BodyFiles, Spool
from buffy_proxy.store.env import TOTALS, Index
from buffy_proxy.store.records import (
    REFRESH_AT_AT,
    STAMP_SIZE,
    STAMPS_SIZE,
    Entry,
    body_of,
    decode_resource,
    decode_version,
    encode_resource,
    encode_version,
    get_time,
    stamp_at,
    time_key,
)

BODY: Final = struct.Struct("<QQd")
"""References, size, and when the last reference went (0.0 while there are some)."""

SEQ: Final = struct.Struct(">Q")

Totals = tuple[int, int, int, int, int]
"""resources, versions, bodies, body bytes, next seq"""

_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")


def id_key(resource_id: str) -> bytes | None:
    """The key of a resource; None for what can be no id (such as what a client made up)."""
    return resource_id.encode() if _ID.fullmatch(resource_id) else None


def version_key(resource_id: str, name: str) -> bytes | None:
    rid, own = id_key(resource_id), id_key(name)
    return None if rid is None or own is None else rid + b"\0" + own


def document_key(kind: str, name: str) -> bytes | None:
    own_kind, own = id_key(kind), id_key(name)
    return None if own_kind is None or own is None else own_kind + b"\0" + own


def group_prefix(group: str) -> bytes:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:16]


def read_versions(txn: Any, db: Any, resource_id: str) -> tuple[Version, ...]:
    """All versions of a resource, newest first. Raises RecordError."""
    if (rid := id_key(resource_id)) is None:
        return ()
    prefix, skip = rid + b"\0", len(rid) + 1
    found: list[Version] = []
    with txn.cursor(db) as cursor:
        if cursor.set_range(prefix):
            for key, record in cursor:
                if not key.startswith(prefix):
                    break
                found.append(decode_version(resource_id, key[skip:].decode(), record))
    return tuple(found[::-1])


class MapFull(StoreFull):
    """The index has no room; evicting makes some (which a full disk does not promise)."""


class Tx:
    def __init__(self, txn: Any, index: Index, files: BodyFiles) -> None:
        self.txn = txn
        self.index = index
        self.db = index.db
        self.files = files
        self.placed: list[bytes] = []
        self._changed: set[bytes] = set()
        self._totals: Totals | None = None

    def seal(self) -> None:
        """At the end of an operation: writes down what it changed as a whole."""
        if self._totals is not None:
            self.txn.put(b"totals", TOTALS.pack(*self._totals), db=self.db.meta)
        self._stamp()

    def _stamp(self) -> None:
        """What was decided from these resources must be decided anew. Ids of write transactions never come
        again."""
        if self._changed:
            stamps = bytearray(self.txn.get(b"stamps", db=self.db.meta) or bytes(STAMPS_SIZE))
            for rid in self._changed:
                at = stamp_at(rid)
                stamps[at : at + STAMP_SIZE] = self.txn.id().to_bytes(8, "big")[-STAMP_SIZE:]
            self.txn.put(b"stamps", bytes(stamps), db=self.db.meta)

    # -- totals and room ------------------------------------------------------------------------------------

    def totals(self) -> Totals:
        """As they are with what this operation has done."""
        if self._totals is not None:
            return self._totals
        found: Totals = TOTALS.unpack(self.txn.get(b"totals", db=self.db.meta))
        return found

    def add_totals(self, resources: int = 0, versions: int = 0, bodies: int = 0, size: int = 0) -> None:
        old = self.totals()
        self.set_totals(
            max(0, old[0] + resources),
            max(0, old[1] + versions),
            max(0, old[2] + bodies),
            max(0, old[3] + size),
            old[4] + max(0, resources),
        )

    def set_totals(self, *totals: int) -> None:
        self._totals = totals  # type: ignore[assignment]

    def require_room(self) -> None:
        """Additions leave a reserve of pages: without free pages nothing could be deleted. Raises MapFull."""
        if not self.index.has_room(self.txn):
            raise MapFull("the index is full: raise map_size, or delete versions and run `buffy store gc`")

    # -- resources ------------------------------------------------------------------------------------------

    def entry(self, resource_id: str) -> Entry | None:
        rid = id_key(resource_id)
        record = None if rid is None else self.txn.get(rid, db=self.db.resources)
        return None if record is None else decode_resource(resource_id, record)

    def put_entry(self, entry: Entry) -> None:
        rid = entry.resource.id.encode()
        self._changed.add(rid)
        self.txn.put(rid, encode_resource(entry), db=self.db.resources)
        if entry.resource.policy is not None:
            self.txn.put(rid, b"", db=self.db.ordered)

    def ensure_entry(self, key: CacheKey, now: float) -> Entry:
        """The resource of `key`, created if need be. Raises StoreError for an id that cannot be a key."""
        if (found := self.entry(key.id)) is not None:
            return found
        if (rid := id_key(key.id)) is None:
            raise StoreError(f"{key.id!r} cannot name a resource: 1 to 200 printable ASCII characters can")
        seq = self.totals()[4]
        entry = Entry(Resource(key, now, now), seq, now)
        self.put_entry(entry)
        self.txn.put(SEQ.pack(seq), rid, db=self.db.order)
        self.txn.put(group_prefix(key.group) + SEQ.pack(seq), rid, db=self.db.groups)
        self.add_totals(resources=1)
        return entry

    def move_in_lru(self, rid: bytes, before: float | None, after: float) -> None:
        """Moves a resource in the order of eviction, if it is there; its record is the caller's."""
        if self.txn.delete(time_key(before or 0.0) + rid, db=self.db.lru):
            self.txn.put(time_key(after) + rid, b"", db=self.db.lru)

    def mark_evictable(self, entry: Entry) -> None:
        self.txn.put(time_key(entry.lru_at) + entry.resource.id.encode(), b"", db=self.db.lru)

    def settle(self, entry: Entry, *, drop: bool = False) -> None:
        """After content went: a resource with nothing left to evict leaves the LRU order, and goes altogether
        if nobody configured it (or with `drop`)."""
        rid = entry.resource.id.encode()
        if not drop and self.has_content(rid):
            return
        self.txn.delete(time_key(entry.lru_at) + rid, db=self.db.lru)
        if drop or (entry.resource.policy is None and not entry.resource.info):
            self._changed.add(rid)
            self.txn.delete(rid, db=self.db.resources)
            self.txn.delete(rid, db=self.db.ordered)
            self.txn.delete(SEQ.pack(entry.seq), db=self.db.order)
            self.txn.delete(group_prefix(entry.resource.key.group) + SEQ.pack(entry.seq), db=self.db.groups)
            self.add_totals(resources=-1)

    def has_content(self, rid: bytes) -> bool:
        """Whether the resource has a version or an error response."""
        if self.txn.get(rid, db=self.db.errors) is not None:
            return True
        with self.txn.cursor(self.db.versions) as cursor:
            return bool(cursor.set_range(rid + b"\0")) and cursor.key().startswith(rid + b"\0")

    # -- versions -------------------------------------------------------------------------------------------

    def versions(self, resource_id: str) -> tuple[Version, ...]:
        return read_versions(self.txn, self.db.versions, resource_id)

    def version(self, resource_id: str, name: str) -> Version | None:
        key = version_key(resource_id, name)
        record = None if key is None else self.txn.get(key, db=self.db.versions)
        return None if record is None else decode_version(resource_id, name, record)

    def put_version(self, version: Version) -> None:
        """Writes a record, new or changed, with its place in the due order. References are the caller's."""
        if (key := version_key(version.resource_id, version.name)) is None:
            raise StoreError(
                f"{version.name!r} cannot name a version: 1 to 200 printable ASCII characters can"
            )
        old = self.txn.get(key, db=self.db.versions)
        self.put_record(key, encode_version(version), old)
        if old is None:
            self.add_totals(versions=1)

    def put_record(self, key: bytes, record: bytes, old: bytes | None) -> None:
        self._changed.add(key.partition(b"\0")[0])
        before = None if old is None else get_time(old, REFRESH_AT_AT)
        after = get_time(record, REFRESH_AT_AT)
        if before != after:
            self._unplan(key, before)
            if after is not None:
                self.txn.put(time_key(after) + key, b"", db=self.db.due)
        self.txn.put(key, record, db=self.db.versions)

    def _unplan(self, key: bytes, refresh_at: float | None) -> None:
        if refresh_at is not None:
            self.txn.delete(time_key(refresh_at) + key, db=self.db.due)

    def drop_version(self, version: Version, now: float) -> None:
        key = version_key(version.resource_id, version.name)
        self._changed.add(version.resource_id.encode())
        self.txn.delete(key, db=self.db.versions)
        self._unplan(key or b"", version.refresh_at)
        self.add_totals(versions=-1)
        self.unref_body(bytes.fromhex(version.body.digest), now)

    # -- error responses ------------------------------------------------------------------------------------

    def put_error(self, version: Version, now: float) -> None:
        rid = version.resource_id.encode()
        self.drop_error(rid, now)
        self._changed.add(rid)
        self.txn.put(rid, encode_version(version), db=self.db.errors)
        self.txn.put(time_key(version.fresh_until) + rid, b"", db=self.db.stale)

    def drop_error(self, rid: bytes, now: float) -> bool:
        if (record := self.txn.pop(rid, db=self.db.errors)) is None:
            return False
        self._changed.add(rid)
        self.txn.delete(time_key(get_time(record, 0) or 0.0) + rid, db=self.db.stale)
        self.unref_body(body_of(record)[0], now)
        return True

    # -- bodies ---------------------------------------------------------------------------------------------

    def ref_body(self, spool: Spool) -> None:
        """One more record names this content; stores the content if it is not there."""
        ref = spool.finish()
        digest, size = bytes.fromhex(ref.digest), ref.size
        found = self.txn.get(digest, db=self.db.bodies)
        refs, _, trashed_at = (0, 0, 0.0) if found is None else BODY.unpack(found)
        if refs == 0:
            self.txn.delete(time_key(trashed_at) + digest, db=self.db.trash)
            self.add_totals(bodies=1, size=size)
        if refs == 0 or not self.holds(digest, size):
            self._store_content(spool, digest)
        self.txn.put(digest, BODY.pack(refs + 1, size, 0.0), db=self.db.bodies)

    def unref_body(self, digest: bytes, now: float) -> None:
        """One record less; content without any counts as freed at once, and goes after the grace period."""
        found = self.txn.get(digest, db=self.db.bodies)
        refs, size, _ = (0, 0, 0.0) if found is None else BODY.unpack(found)
        if refs == 0:
            return
        self.txn.put(digest, BODY.pack(refs - 1, size, now if refs == 1 else 0.0), db=self.db.bodies)
        if refs == 1:
            self.txn.put(time_key(now) + digest, b"", db=self.db.trash)
            self.add_totals(bodies=-1, size=-size)

    def holds(self, digest: bytes, size: int) -> bool:
        return self.txn.get(digest, db=self.db.inline) is not None or self.files.holds(digest, size)

    def _store_content(self, spool: Spool, digest: bytes) -> None:
        if spool.path is None:
            self.txn.put(digest, spool.content(), db=self.db.inline)
        else:
            self.files.place(spool.path, digest)
            self.placed.append(digest)

    def undo_files(self) -> None:
        """Nothing references the files this operation placed: call under the write lock, after its abort."""
        for digest in self.placed:
            self.files.remove(digest)
