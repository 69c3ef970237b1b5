"""Stores of any size for benchmarks, written straight into a new index: ten million versions in minutes.

Each resource has one version of seven and three fields with a small in-line body; ids, digests, orders and
totals are as if Buffy had stored them one after the other. Each database is written in the order of its keys,
which for ids and digests means: sorted in memory (about 100 bytes a version while it lasts).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buffy_proxy.core.keys import cache_key
from buffy_proxy.core.model import BodyRef, CacheKey, Request, Resource, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http
from buffy_proxy.core.versions import next_name
from buffy_proxy.store.env import TOTALS, Index, open_index
from buffy_proxy.store.records import Entry, encode_resource, encode_version, time_key
from buffy_proxy.store.tx import BODY, SEQ, group_prefix

FIELDS = (
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"21"),
    (b"ETag", b'"5f1d-60a1c2"'),
    (b"Last-Modified", b"Tue, 04 Feb 2025 10:00:00 GMT"),
    (b"Cache-Control", b"public, max-age=3600"),
    (b"Vary", b"Accept-Encoding"),
    (b"Date", b"Tue, 04 Feb 2025 11:00:00 GMT"),
)
REQUEST_FIELDS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"gzip, deflate"), (b"User-Agent", b"bench/1"))
FRESH_S = 86400.0
MAP_SIZE = 64 << 30
PER_COMMIT = 100_000
_POLICY = Policy(Http())
Pairs = Iterator[tuple[bytes, bytes]]


def request(number: int) -> Request:
    """What a client asks for to get the version with that number."""
    return Request("GET", f"http://origin.test/files/{number:08}", REQUEST_FIELDS)


def key(number: int) -> CacheKey:
    return cache_key(request(number), _POLICY, b"")


def content(number: int) -> bytes:
    return b"content of %08d\n" % number


def fill(data_dir: Path, size: int, now: float) -> None:
    """A store of `size` versions, all stored at `now` (POSIX s), under a directory that has none. They were
    used in the order of their numbers, within the last hour."""
    index = open_index(data_dir, MAP_SIZE)
    db, name, numbers = index.db, next_name(now, None), range(size)
    due, group = time_key(now + FRESH_S), group_prefix(request(0).group)
    reference = BODY.pack(1, len(content(0)), 0.0)

    def used(number: int) -> float:
        return now - 3600 + 3600 * number / size

    rids = [key(number).id.encode() for number in numbers]
    _append(index, db.order, ((SEQ.pack(n), rid) for n, rid in enumerate(rids)))
    _append(index, db.groups, ((group + SEQ.pack(n), rid) for n, rid in enumerate(rids)))
    _append(index, db.lru, ((time_key(used(n)) + rid, b"") for n, rid in enumerate(rids)))
    order = sorted(numbers, key=rids.__getitem__)
    _append(index, db.due, ((due + rids[n] + b"\0" + name.encode(), b"") for n in order))
    del rids
    _append(index, db.resources, (_resource(n, now, used(n)) for n in order))
    _append(index, db.versions, (_version(n, name, now) for n in order))
    del order
    digests = sorted(hashlib.sha256(content(n)).digest() + SEQ.pack(n) for n in numbers)
    _append(index, db.bodies, ((digest[:32], reference) for digest in digests))
    _append(index, db.inline, ((d[:32], content(SEQ.unpack_from(d, 32)[0])) for d in digests))
    with index.env.begin(write=True, db=db.meta) as txn:
        txn.put(b"totals", TOTALS.pack(size, size, size, size * len(content(0)), size))


def _append(index: Index, db: Any, pairs: Pairs) -> None:
    """Writes pairs whose keys ascend."""
    while portion := list(itertools.islice(pairs, PER_COMMIT)):
        with index.env.begin(write=True) as txn, txn.cursor(db) as cursor:
            cursor.putmulti(portion, append=True)


def _resource(number: int, now: float, used_at: float) -> tuple[bytes, bytes]:
    entry = Entry(Resource(key(number), now, used_at), number, used_at)
    return entry.resource.id.encode(), encode_resource(entry)


def _version(number: int, name: str, now: float) -> tuple[bytes, bytes]:
    body = content(number)
    ref = BodyRef(hashlib.sha256(body).hexdigest(), len(body))
    times = (now, now, now, now, now + FRESH_S, now + FRESH_S)
    version = Version(key(number).id, name, 200, b"OK", FIELDS, ref, REQUEST_FIELDS, *times)
    return version.resource_id.encode() + b"\0" + name.encode(), encode_version(version)
