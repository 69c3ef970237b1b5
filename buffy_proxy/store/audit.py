"""Whether the index agrees with itself, and how its derived parts are made anew.

The records of resources, versions and error responses are the truth; the orders (creation, group, due, stale,
LRU), reference counts and totals follow from them. A derived database is right when every entry that
follows from a record is there and it has no more entries than that: so one walk over the records suffices,
and the same walk rebuilds. References are counted a slice of the digests at a time, each in a quick walk of
its own: so memory stays within some 300 MiB. All of it runs within one transaction, and so is right while
others write; what they free meanwhile can be used again only after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, Final, Literal

from buffy_proxy.core.model import Version
from buffy_proxy.store.records import RecordError, body_of, decode_resource, decode_version, time_key
from buffy_proxy.store.tx import BODY, SEQ, Tx, group_prefix

Kind = Literal["record", "index", "references", "totals", "body", "orphan", "temporary"]
DERIVED: Final = ("order", "groups", "ordered", "due", "stale", "lru")
SLICE: Final = 500_000
"""Bodies whose references are counted at a time, about."""
NAMED_AT_MOST: Final = 20
"""Missing entries of one order that are named singly."""
REBUILD: Final = "orders, counts and totals are made anew from the records"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, with which thing, and how `--repair` mends it."""

    kind: Kind
    which: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.which}: {self.problem} ({self.mend})"


class Walk:
    """One walk over all records. After `entries()` is used up the other attributes tell what it met.

    broken      records that do not decode or have no resource: by database name and key, the problem
    """

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.broken: dict[tuple[str, bytes], str] = {}
        self.resources = 0
        self.versions = 0
        self.next_seq = 0

    def entries(self) -> Iterator[tuple[str, bytes, bytes]]:
        """What the derived databases should hold: database name, key, value."""
        yield from self._of_resources()
        for name in ("versions", "errors"):
            for key, record in self._all(name):
                if (version := self._version(name, key, record)) is not None:
                    yield from self._of_version(name, key, version)

    def _all(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        with self._tx.txn.cursor(getattr(self._tx.db, name)) as cursor:
            yield from cursor

    def _of_resources(self) -> Iterator[tuple[str, bytes, bytes]]:
        for rid, record in self._all("resources"):
            try:
                entry = decode_resource(rid.decode("ascii", "replace"), record)
            except RecordError as error:
                self.broken["resources", rid] = str(error)
                continue
            self.resources += 1
            self.next_seq = max(self.next_seq, entry.seq + 1)
            yield "order", SEQ.pack(entry.seq), rid
            yield "groups", group_prefix(entry.resource.key.group) + SEQ.pack(entry.seq), rid
            if entry.resource.policy is not None:
                yield "ordered", rid, b""
            if self._tx.has_content(rid):
                yield "lru", time_key(entry.lru_at) + rid, b""

    def _version(self, db: str, key: bytes, record: bytes) -> Version | None:
        rid, _, name = key.partition(b"\0")
        try:
            version = decode_version(rid.decode("ascii", "replace"), name.decode("ascii", "replace"), record)
        except RecordError as error:
            self.broken[db, key] = str(error)
            return None
        owner = self._tx.txn.get(rid, db=self._tx.db.resources)
        if owner is None or not _decodes(rid, owner):
            self.broken[db, key] = "its resource is not there"
            return None
        return version

    def _of_version(self, db: str, key: bytes, version: Version) -> Iterator[tuple[str, bytes, bytes]]:
        if db == "errors":
            yield "stale", time_key(version.fresh_until) + key, b""
            return
        self.versions += 1
        if version.refresh_at is not None:
            yield "due", time_key(version.refresh_at) + key, b""


class References:
    """Of the bodies in one slice: how many sound records name each, and how large they say it is."""

    def __init__(self, tx: Tx, walk: Walk, low: bytes, high: bytes) -> None:
        self.count: Counter[bytes] = Counter()
        self.sizes: dict[bytes, int] = {}
        for name in ("versions", "errors"):
            with tx.txn.cursor(getattr(tx.db, name)) as cursor:
                for key, record in cursor:
                    if (name, key) in walk.broken:
                        continue
                    digest, size = body_of(record)
                    if low <= digest < high:
                        self.count[digest] += 1
                        self.sizes[digest] = size


def slices(tx: Tx) -> Iterator[tuple[bytes, bytes]]:
    """The digests from … to (without) …, in ranges of about as many bodies."""
    parts = min(256, 1 + tx.txn.stat(tx.db.bodies)["entries"] // SLICE)
    return pairwise([*(bytes([256 * part // parts]) for part in range(parts)), b"\xff" * 33])


def _keys(tx: Tx, db: Any, low: bytes, high: bytes) -> Iterator[bytes]:
    with tx.txn.cursor(db) as cursor:
        if cursor.set_range(low):
            yield from takewhile(lambda key: key < high, cursor.iternext(keys=True, values=False))


def audit(tx: Tx) -> Iterator[Finding]:
    """All disagreements within the index. `tx` may be of a read transaction."""
    walk, expected, missing = Walk(tx), Counter[str](), Counter[str]()
    for name, key, value in walk.entries():
        expected[name] += 1
        if tx.txn.get(key, db=getattr(tx.db, name)) != value:
            missing[name] += 1
            if missing[name] <= NAMED_AT_MOST:
                yield Finding("index", _label(key), f"it is missing in the order {name!r}", REBUILD)
    for name, count in missing.items():
        if count > NAMED_AT_MOST:
            more = count - NAMED_AT_MOST
            yield Finding("index", f"order {name!r}", f"{more} more entries are missing", REBUILD)
    for (db, key), problem in walk.broken.items():
        yield Finding("record", f"{db} {_label(key)}", problem, "the record is dropped")
    for name in DERIVED:
        extra = tx.txn.stat(getattr(tx.db, name))["entries"] - expected[name]
        if extra > 0:
            yield Finding("index", f"order {name!r}", f"{extra} entries belong to no record", REBUILD)
    yield from _audit_bodies(tx, walk)


def _audit_bodies(tx: Tx, walk: Walk) -> Iterator[Finding]:
    live = size = 0
    for low, high in slices(tx):
        named = References(tx, walk, low, high)
        for digest in _keys(tx, tx.db.bodies, low, high):
            refs, stored_size, trashed_at = BODY.unpack(tx.txn.get(digest, db=tx.db.bodies))
            wanted = named.count.pop(digest, 0)
            live, size = live + (refs > 0), size + (stored_size if refs else 0)
            if refs != wanted or (wanted and stored_size != named.sizes[digest]):
                yield Finding("references", digest.hex(), f"{refs} counted, {wanted} name it", REBUILD)
            elif not refs and tx.txn.get(time_key(trashed_at) + digest, db=tx.db.trash) is None:
                yield Finding("references", digest.hex(), "unreferenced, but not in the trash", REBUILD)
        for digest in named.count:
            yield Finding("references", digest.hex(), "named by a record, but not registered", REBUILD)
        del named  # or there would be two of them in memory
    with tx.txn.cursor(tx.db.inline) as cursor:
        for digest in cursor.iternext(keys=True, values=False):
            if tx.txn.get(digest, db=tx.db.bodies) is None:
                yield Finding("orphan", digest.hex(), "content in the index that nothing names", REBUILD)
    counted = (walk.resources, walk.versions, live, size)
    totals = tx.totals()
    if totals[:4] != counted or totals[4] < walk.next_seq:
        yield Finding("totals", "totals", f"they say {totals[:4]}, counted were {counted}", REBUILD)


def rebuild(tx: Tx, now: float) -> None:
    """Drops broken records, makes all that is derived anew. Unreferenced content goes to the trash."""
    owners = _drop_broken(tx)
    for name in (*DERIVED, "trash"):
        tx.txn.drop(getattr(tx.db, name), delete=False)
    walk = Walk(tx)
    for name, key, value in walk.entries():
        tx.txn.put(key, value, db=getattr(tx.db, name))
    live = size = 0
    for low, high in slices(tx):
        named = References(tx, walk, low, high)
        registered = {key for db in (tx.db.bodies, tx.db.inline) for key in _keys(tx, db, low, high)}
        for digest in registered | set(named.count):
            _register(tx, named, digest, now)
        live, size = live + len(named.count), size + sum(named.sizes.values())
        del named, registered
    counted = (walk.resources, walk.versions, live, size)
    next_seq = max(walk.next_seq, tx.totals()[4])
    tx.set_totals(*counted, next_seq)
    for rid in owners:
        if (entry := tx.entry(rid.decode("ascii", "replace"))) is not None:
            tx.settle(entry)


def _drop_broken(tx: Tx) -> set[bytes]:
    """Returns the ids of the resources that lost something."""
    walk = Walk(tx)
    for _ in walk.entries():
        pass
    for name, key in walk.broken:
        tx.txn.delete(key, db=getattr(tx.db, name))
    return {key.partition(b"\0")[0] for _, key in walk.broken}


def _register(tx: Tx, named: References, digest: bytes, now: float) -> None:
    refs = named.count[digest]
    found = tx.txn.get(digest, db=tx.db.bodies)
    content = tx.txn.get(digest, db=tx.db.inline)
    size = named.sizes.get(digest) or (BODY.unpack(found)[1] if found else len(content or b""))
    tx.txn.put(digest, BODY.pack(refs, size, 0.0 if refs else now), db=tx.db.bodies)
    if not refs:
        tx.txn.put(time_key(now) + digest, b"", db=tx.db.trash)


def _decodes(rid: bytes, record: bytes) -> bool:
    try:
        decode_resource(rid.decode("ascii", "replace"), record)
    except RecordError:
        return False
    return True


def _label(key: bytes) -> str:
    """A key for humans: ids and names are printable, the rest of a key (times, numbers) is not."""
    text = key.replace(b"\0", b" ").decode("ascii", "replace")
    return text if text.isprintable() else key.hex()
