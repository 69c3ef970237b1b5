"""Many versions at once, with one commit for thousands: for imports and benchmarks, not for the proxy."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from buffy_proxy.core.model import CacheKey, Retention, Version
from buffy_proxy.store import ops
from buffy_proxy.store.bodies import Spool
from buffy_proxy.store.index import LmdbStore
from buffy_proxy.store.tx import Tx

PER_COMMIT: Final = 5000


@dataclass(frozen=True, slots=True)
class Item:
    """A response to store: `version.body` is taken from `content`, its time of storing from `cached_at`."""

    key: CacheKey
    version: Version
    content: bytes


def bulk_add(store: LmdbStore, items: Iterable[Item], retention: Retention | None = None) -> int:
    """Stores all items, waiting for each commit. Returns how many there were. When one fails, its whole
    portion is not stored; raises StoreFull or StoreError."""
    source, count = iter(items), 0
    while portion := list(itertools.islice(source, PER_COMMIT)):
        spools = [_spool(store, item) for item in portion]
        pairs = list(zip(portion, spools, strict=True))
        store.run(functools.partial(_add_all, portion=pairs, retention=retention)).result()
        count += len(portion)
    return count


def _spool(store: LmdbStore, item: Item) -> Spool:
    body = store.new_body()
    assert isinstance(body, Spool)
    body.write(item.content)
    body.finish()
    return body


def _add_all(tx: Tx, portion: Iterable[tuple[Item, Spool]], retention: Retention | None) -> None:
    for item, spool in portion:
        spool.take()
        now = item.version.cached_at
        ops.add_version(tx, item.key, item.version, spool, retention or Retention(), now)
        spool.discard()
