"""The versions of a request as clients of the v1 API see them: what is stored, merged with orders on record.

    stored version, with or without the order that brought it     ready
    order under way                                                wait, in_progress
    order that failed                                              failed
    order answered by another version                              duplicate

Lists are newest first. A version that was shown can be used for SEEN_S more, even when retention drops it
meanwhile: the store keeps its bytes that long, and this process its record.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from buffy_proxy.core.model import Resource, Version
from buffy_proxy.errors import NotFound
from buffy_proxy.orders import Order, OrderBook, Status
from buffy_proxy.store import Store

LATEST: Final = "latest"
SEEN_S: Final = 120.0
SEEN_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a request's history.

    version          what its content is; None while there is none. A duplicate has that of its result.
    order            the order on record under this name, None if there is none (any more)
    previous, next   names of the nearest older and newer versions with content
    """

    name: str
    status: Status
    version: Version | None
    order: Order | None
    previous: str | None = None
    next: str | None = None

    @property
    def pending(self) -> bool:
        return self.status in ("wait", "in_progress")

    def pinned(self, now: float) -> bool:
        return self.status == "ready" and self.version is not None and self.version.pinned(now)

    @property
    def tags(self) -> frozenset[str]:
        return self.version.tags if self.version and self.status == "ready" else frozenset()


class Shelf:
    """Looks at resources and their histories. Reads only; may be called from any thread."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._orders = OrderBook(store)
        self._seen = _Seen()
        self._clock = clock

    def resource(self, resource_id: str) -> Resource:
        """Raises NotFound."""
        if (resource := self._store.resource(resource_id)) is None:
            raise NotFound(f"There is no request {resource_id!r}.")
        return resource

    def entries(self, resource_id: str) -> list[Entry]:
        """The whole history. Raises NotFound for an unknown resource."""
        self.resource(resource_id)
        # Orders first: one that is read as unfinished may have its version by now, never the reverse.
        orders = {order.name: order for order in self._orders.of(resource_id)}
        versions = {version.name: version for version in self._store.versions(resource_id)}
        self._seen.note(resource_id, versions.values(), self._clock())
        names = sorted({*orders, *versions}, reverse=True)
        found = (_entry(name, versions, orders.get(name)) for name in names)
        return linked([entry for entry in found if entry is not None])

    def entry(self, resource_id: str, name: str) -> Entry:
        """One of the history, or the newest for `latest`. Raises NotFound."""
        entries = self.entries(resource_id)
        if name == LATEST and entries:
            return entries[0]
        for entry in entries:
            if entry.name == name:
                return entry
        if (gone := self._seen.get(resource_id, name, self._clock())) is not None:
            return Entry(name, "ready", gone, None)
        raise NotFound(f"Request {resource_id!r} has no version {name!r}.")

    def stored(self, resource_id: str, name: str) -> Entry:
        """One with content; `latest` is the newest that has some. Raises NotFound."""
        if name == LATEST:
            ready = [entry for entry in self.entries(resource_id) if entry.status == "ready"]
            if not ready:
                raise NotFound(f"Request {resource_id!r} has no stored version.")
            return ready[0]
        return self.entry(resource_id, name)


def select(
    entries: Iterable[Entry],
    now: float,
    *,
    status: str | None = None,
    tag: str | None = None,
    pinned: bool | None = None,
) -> list[Entry]:
    """Those that fulfil all conditions; None is no condition."""
    return [
        entry
        for entry in entries
        if (status is None or entry.status == status)
        and (tag is None or tag in entry.tags)
        and (pinned is None or entry.pinned(now) == pinned)
    ]


def linked(entries: Sequence[Entry]) -> list[Entry]:
    """Newest first, each with the names of its neighbours that have content of their own. What comes before a
    duplicate is the version it duplicates."""
    ready = [entry.name for entry in entries if entry.status == "ready"]
    return [_linked(entry, ready) for entry in entries]


def _linked(entry: Entry, ready: Sequence[str]) -> Entry:
    older = next((name for name in ready if name < entry.name), None)
    newer = next((name for name in reversed(ready) if name > entry.name), None)
    if entry.status == "duplicate" and entry.version is not None:
        older = entry.version.name
        newer = newer if newer != older else None
    return replace(entry, previous=older, next=newer)


def _entry(name: str, versions: Mapping[str, Version], order: Order | None) -> Entry | None:
    """None for an order whose result was removed since."""
    if (version := versions.get(name)) is not None:
        return Entry(name, "ready", version, order)
    assert order is not None
    if order.status in ("ready", "duplicate"):
        result = versions.get(order.result or "")
        return None if result is None else Entry(name, "duplicate", result, order)
    return Entry(name, order.status, None, order)


class _Seen:
    """The versions that clients were shown last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: OrderedDict[tuple[str, str], tuple[float, Version]] = OrderedDict()

    def note(self, resource_id: str, versions: Iterable[Version], now: float) -> None:
        with self._lock:
            for version in versions:
                key = (resource_id, version.name)
                self._shown[key] = (now, version)
                self._shown.move_to_end(key)
            while len(self._shown) > SEEN_MAX:
                self._shown.popitem(last=False)

    def get(self, resource_id: str, name: str, now: float) -> Version | None:
        with self._lock:
            at, version = self._shown.get((resource_id, name), (0.0, None))
        return version if now - at <= SEEN_S else None
