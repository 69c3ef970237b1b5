"""Counts and last-use times, collected in memory and written behind: a hit never waits for a write.

At most FLUSH_S of counts are lost when a process is killed; nothing else depends on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict

from buffy_proxy.answer import Answer
from buffy_proxy.store import Store

FLUSH_S = 0.25
TOUCH_S = 5.0


class Ledger:
    """`note` one finished request; `run` flushes until cancelled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._used: set[str] = set()
        self._touched_at = 0.0
        self._hits: dict[str | None, list[int]] = {}

    def note_hit(self, sent: int, run: str | None, resource_id: str) -> None:
        """The same as `note` for a plain hit, at a tenth of its cost."""
        hits = self._hits.get(run)
        if hits is None:
            hits = self._hits[run] = [0, 0]
        hits[0] += 1
        hits[1] += sent
        self._used.add(resource_id)

    def note(self, answer: Answer, sent: int, *, run: str | None, resource_id: str | None = None) -> None:
        """`sent` body bytes of this answer reached the client; `run` is the id of a `buffy run`, if any."""
        amounts = {
            "requests": 1,
            "hits": int(answer.hit),
            "bytes_cache": sent if answer.source == "cache" else 0,
            "bytes_origin": sent if answer.source == "origin" else 0,
        }
        for name in ("total", f"run/{run}") if run else ("total",):
            self._counts[name].update(amounts)
        self._counts["decisions"][answer.decision] += 1
        if answer.origin_error is not None:
            self._counts["origin_errors"][answer.origin_error] += 1
        if resource_id is not None:
            self._used.add(resource_id)

    def flush(self) -> None:
        hits, self._hits = self._hits, {}
        for run, (count, sent) in hits.items():
            for name in ("total", f"run/{run}") if run else ("total",):
                self._counts[name].update({"requests": count, "hits": count, "bytes_cache": sent})
            self._counts["decisions"]["hit"] += count
        counts, self._counts = self._counts, defaultdict(Counter)
        for name, amounts in counts.items():
            self._store.count(name, {key: value for key, value in amounts.items() if value})
        now = time.time()
        if self._used and now - self._touched_at >= TOUCH_S:
            used, self._used = self._used, set()
            self._touched_at = now
            self._store.touch(used, now)

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                self.flush()
        except asyncio.CancelledError:
            self._touched_at = 0.0
            with contextlib.suppress(Exception):
                self.flush()
            raise
