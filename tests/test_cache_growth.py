"""What a hit takes does not grow with the store."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from buffy_proxy.answer import Answer
from buffy_proxy.cache import Cache
from buffy_proxy.core.keys import cache_key
from buffy_proxy.core.model import Request
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http
from buffy_proxy.store.bulk import Item, bulk_add
from buffy_proxy.store.index import LmdbStore
from tests.store.kit import version
from tests.support.shell import cache, get, run

FEW, MANY = 10, 20_000
SPREAD = 512
"""Bytes by which two hits may differ anyhow: longer numbers, blocks of other sizes."""


def asked(number: int) -> Request:
    return get(f"http://origin.test/{number:06}")


def items(start: int, end: int) -> Iterator[Item]:
    now = time.time()
    stored = replace(version(now), fresh_until=now + 3600, refresh_at=now + 3000)
    for number in range(start, end):
        yield Item(cache_key(asked(number), Policy(Http()), b""), stored, b"content %06d" % number)


def hit(made: Cache, number: int) -> None:
    answer = made.open_now(asked(number))
    assert isinstance(answer, Answer) and answer.content == b"content %06d" % number


def taken(made: Cache, numbers: range) -> tuple[int, int]:
    """The most bytes that any of these hits needs meanwhile, and what they leave behind when said again."""
    tracemalloc.start()
    try:
        for number in numbers:
            hit(made, number)
        before, peak = traced(), 0
        for number in numbers:
            now = traced()
            tracemalloc.reset_peak()
            hit(made, number)
            peak = max(peak, tracemalloc.get_traced_memory()[1] - now)
        return peak, traced() - before
    finally:
        tracemalloc.stop()


def traced() -> int:
    """Bytes in use, without what Python keeps in its free lists."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_a_hit_allocates_as_much_in_a_large_store(tmp_path: Path) -> None:
    async def test() -> None:
        store = LmdbStore(tmp_path, max_size=1 << 30, map_size=1 << 30)
        async with cache(tmp_path, store=store) as made:
            bulk_add(store, items(0, FEW))
            few, few_left = taken(made, range(FEW))
            assert few > 1000
            bulk_add(store, items(FEW, MANY))
            many, many_left = taken(made, range(MANY // 2, MANY // 2 + FEW))
            assert many < few + SPREAD and many_left < few_left + SPREAD
        store.close()

    run(test())
