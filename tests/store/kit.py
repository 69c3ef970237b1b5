"""What the store tests share: values with sensible defaults, and `put`, which stores one."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from buffy_proxy.core.model import DEFAULT_GROUP, BodyRef, CacheKey, Retention, Version
from buffy_proxy.store import Outcome, Store
from buffy_proxy.store.check import check
from buffy_proxy.store.index import LmdbStore

NOW = float(round(time.time())) + 86_400
"""Ahead of the clock: a store collects by itself what the real time says is past its grace."""
"""The real time, since stores collect garbage by themselves."""
LARGE = 200_000
"""More bytes than stand in the index."""
NO_BODY = BodyRef("0" * 64, 0)


def key(name: str = "page", group: str = DEFAULT_GROUP) -> CacheKey:
    return CacheKey(f"id-{name}", group, "GET", f"http://origin.test/{name}")


def version(now: float = NOW, **changes: Any) -> Version:
    plain = Version(
        resource_id="",
        name="",
        status=200,
        reason=b"OK",
        fields=((b"Content-Type", b"text/plain"),),
        body=NO_BODY,
        request_fields=((b"Accept", b"*/*"),),
        requested_at=now,
        received_at=now,
        cached_at=now,
        validated_at=now,
        fresh_until=now + 60,
    )
    return replace(plain, **changes)


def submit(
    store: Store,
    content: bytes,
    name: str = "page",
    now: float = NOW,
    retention: Retention | None = None,
    group: str = DEFAULT_GROUP,
    patient: bool = False,
    **changes: Any,
) -> Future[Outcome]:
    body = store.new_body()
    body.write(content)
    ref = body.finish()
    made = version(now, body=ref, **changes)
    kept = retention or Retention()
    future = store.add_version(key(name, group), made, body, kept, now=now, patient=patient)
    body.close()
    return future


def put(store: Store, content: bytes, name: str = "page", now: float = NOW, **more: Any) -> Outcome:
    return submit(store, content, name, now, **more).result(20)


def put_error(
    store: Store, content: bytes, name: str = "page", now: float = NOW, fresh_until: float = NOW + 9
) -> None:
    body = store.new_body()
    body.write(content)
    made = version(now, status=503, body=body.finish(), fresh_until=fresh_until)
    store.put_error(key(name), made, body, now=now).result(20)
    body.close()


def content_of(store: Store, stored: Version) -> bytes:
    reader = store.open_body(stored.body)
    parts, at = [], 0
    while chunk := reader.read_at(at, 1 << 16):
        parts.append(chunk)
        at += len(chunk)
    reader.close()
    return b"".join(parts)


def lmdb_store(data_dir: Path, max_size: int = 1 << 30, map_size: int = 1 << 30) -> LmdbStore:
    return LmdbStore(data_dir, max_size=max_size, map_size=map_size)


def findings(data_dir: Path, *, repair: bool = False) -> list[tuple[str, str]]:
    """Kind and thing of each finding."""
    return [(finding.kind, finding.which) for finding in check(data_dir, repair=repair)]
