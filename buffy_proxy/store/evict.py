"""Making room: eviction from the least-recently-used end, stale error responses, bodies without references.

Work is done in bounded turns, so that the write lock is never held for long. What is evicted counts as freed
at once; its content goes when it has been without references for the grace period, inside a write
transaction that has checked it again. So no process can unlink what another is about to reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from buffy_proxy.core.model import CacheKey, Version
from buffy_proxy.store import leftovers
from buffy_proxy.store.records import LRU_AT_AT, get_time, key_time, put_time, time_key
from buffy_proxy.store.tx import BODY, Tx
from buffy_proxy.store.writer import AGAIN, Again

Evicted = Callable[[CacheKey, Version], object]
"""Is told what was evicted, in the writing thread: it must not wait and not raise."""

TURN: Final = 256
"""Resources, error responses or bodies handled in one transaction: as many as the writer stores in a group,
so that a store at its cap does not grow under load."""
LOW_MARK: Final = 0.95


class Collection:
    """One run of gc: an operation of several turns. Answers the bytes of content removed from the disk.

    `squeeze`: the map turned out to be full before the limit of pages was reached (large values need pages
    in a row), so some of what is used now has to go.
    """

    def __init__(
        self, now: float, grace_s: float, cap: int, tell: Evicted | None, *, squeeze: bool = False
    ) -> None:
        self._tell = tell
        self._evicted: list[tuple[CacheKey, Version]] = []
        self._now = now
        self._grace_s = grace_s
        self._cap = cap
        self._squeeze = squeeze
        self._page_goal = math.inf
        self._freed = 0
        self._evicting = False
        self._seen_protected: bytes | None = None
        self._exhausted = False

    def tell(self) -> None:
        """After the last commit: says what went."""
        evicted, self._evicted = self._evicted, []
        for key, version in evicted if self._tell is not None else ():
            self._tell(key, version)  # type: ignore[misc]

    def __call__(self, tx: Tx) -> int | Again:
        steps = (self._evict, self._drop_stale_errors, self._empty_trash)
        if any(step(tx) for step in steps):
            return AGAIN
        self._freed += leftovers.remove(tx)
        return self._freed

    # -- eviction: True asks for another turn ---------------------------------------------------------------

    def _evict(self, tx: Tx) -> bool:
        for _ in range(TURN):
            if self._exhausted or not self._must_evict(tx):
                return False
            self._evict_oldest(tx)
        return True

    def _must_evict(self, tx: Tx) -> bool:
        """Starts above the cap, goes on down to the low mark: of the bytes, and of the pages of the index."""
        share = LOW_MARK if self._evicting else 1.0
        if self._squeeze:
            self._squeeze, self._page_goal = False, tx.index.pages_used(tx.txn) * LOW_MARK
        goal = min(tx.index.page_limit * share * LOW_MARK, self._page_goal)
        self._evicting = tx.totals()[3] > self._cap * share or not self._relieve(tx, goal)
        return self._evicting

    def _relieve(self, tx: Tx, limit: float) -> bool:
        """When the index itself is short of pages, content already without references goes without grace."""
        while tx.index.uses_more_than(tx.txn, limit):
            if not self._remove_from_trash(tx, float("inf")):
                return False
        return True

    def _evict_oldest(self, tx: Tx) -> None:
        with tx.txn.cursor(tx.db.lru) as cursor:
            rid = cursor.key()[8:] if cursor.first() else None
        if rid is None or rid == self._seen_protected:
            self._exhausted = True
            return
        versions = tx.versions(rid.decode())
        going = [version for version in reversed(versions) if not protected(version, self._now)]
        if self._tell is not None and going and (owner := tx.entry(rid.decode())) is not None:
            self._evicted += [(owner.resource.key, version) for version in going]
        for version in going:
            tx.drop_version(version, self._now)
        tx.drop_error(rid, self._now)
        if any(protected(version, self._now) for version in versions):
            self._second_chance(tx, rid)
        elif (entry := tx.entry(rid.decode())) is not None:
            tx.settle(entry)
        else:
            tx.txn.delete(rid, db=tx.db.lru)

    def _second_chance(self, tx: Tx, rid: bytes) -> None:
        """What only has protected versions goes to the recent end; meeting it again means: all was seen."""
        with tx.txn.cursor(tx.db.lru) as cursor:
            newest = key_time(cursor.key()) if cursor.last() else self._now
        record = tx.txn.get(rid, db=tx.db.resources)
        recent = math.nextafter(max(newest, self._now), math.inf)
        tx.move_in_lru(rid, get_time(record, LRU_AT_AT), recent)
        tx.txn.put(rid, put_time(record, LRU_AT_AT, recent), db=tx.db.resources)
        self._seen_protected = self._seen_protected or rid

    # -- error responses and content without references -----------------------------------------------------

    def _drop_stale_errors(self, tx: Tx) -> bool:
        for _ in range(TURN):
            with tx.txn.cursor(tx.db.stale) as cursor:
                key = cursor.key() if cursor.first() else None
            if key is None or key_time(key) > self._now:
                return False
            tx.drop_error(key[8:], self._now)
            if (entry := tx.entry(key[8:].decode())) is not None:
                tx.settle(entry)
        return True

    def _empty_trash(self, tx: Tx) -> bool:
        return all(self._remove_from_trash(tx, self._now - self._grace_s) for _ in range(TURN))

    def _remove_from_trash(self, tx: Tx, before: float) -> bool:
        with tx.txn.cursor(tx.db.trash) as cursor:
            key = cursor.key() if cursor.first() else None
        if key is None or key_time(key) > before:
            return False
        digest = key[8:]
        tx.txn.delete(key, db=tx.db.trash)
        found = tx.txn.get(digest, db=tx.db.bodies)
        refs, size, trashed_at = (1, 0, 0.0) if found is None else BODY.unpack(found)
        if refs == 0 and time_key(trashed_at) == key[:8]:
            tx.txn.delete(digest, db=tx.db.bodies)
            if not tx.txn.delete(digest, db=tx.db.inline):
                tx.files.remove(digest)
            self._freed += size
        return True


def protected(version: Version, now: float) -> bool:
    return bool(version.tags) or version.pinned(now)
