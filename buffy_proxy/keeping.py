"""What becomes of a response that came whole, and what plugins are told about it.

is it new?  ── the same bytes ──────────────────────> the stored version is freshened (the store sees that)
            ── other bytes, a plugin says the same ─> the stored version is freshened
            ── new ─────────────────────────────────> a version; then retention
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from buffy_proxy.core import rules
from buffy_proxy.core.model import CacheKey, Fields, Response, Retention, StoredBody, Version
from buffy_proxy.core.versions import same_variant
from buffy_proxy.landing import Landings
from buffy_proxy.plugins import Plugins
from buffy_proxy.store import BodyWriter, Outcome, Store

log = logging.getLogger("buffy.fetch")

_ALL = Retention(1_000_000_000, 1_000_000_000)
_OF_THE_CONTENT = (
    b"etag",
    b"last-modified",
    b"content-digest",
    b"repr-digest",
    b"digest",
    b"content-md5",
)
"""Fields that tell of bytes which are not kept."""


@dataclass(frozen=True, slots=True)
class Come:
    """A response with its body finished in `body`; `plan` gives a version what its strategy plans for it.
    `patient`: nobody waits for its commit yet."""

    key: CacheKey
    version: Version
    body: BodyWriter
    retention: Retention
    plan: Callable[[Version, float], Version]
    patient: bool = False


class Keeper:
    """Writes to the store; all of it may raise StoreError."""

    def __init__(self, store: Store, plugins: Plugins, clock: Callable[[], float]) -> None:
        self._store = store
        self._plugins = plugins
        self._clock = clock
        self._landings = Landings()

    async def keep(self, come: Come) -> Outcome:
        """A new version, or the stored one freshened."""
        previous = self._previous(come)
        if previous is not None and await self._means_the_same(come, previous):
            return await self._freshen_instead(come, previous)
        outcome = await self._add(come)
        self._tell(come.key, outcome, previous)
        return outcome

    async def confirm(self, key: CacheKey, version: Version) -> Version:
        """After a validation (RFC 9111 §4.3.4)."""
        version = await self._landings.of(self._store.update_version(version))
        self._plugins.events.post("freshened", key=key, version=version)
        return version

    async def keep_error(self, key: CacheKey, version: Version, body: BodyWriter) -> None:
        await self._landings.of(self._store.put_error(key, version, body, now=self._clock()))

    # -- is it new? ---------------------------------------------------------------------------------------
    def _previous(self, come: Come) -> Version | None:
        """The newest version of this variant, where a plugin cares."""
        if not (self._plugins.hook("is_new_version") or self._plugins.events.wanted("changed")):
            return None
        versions = self._store.versions(come.key.id)
        return next((old for old in versions if same_variant(old, come.version)), None)

    async def _means_the_same(self, come: Come, old: Version) -> bool:
        """In a thread: to compare, a plugin reads and parses both."""
        if not self._plugins.hook("is_new_version") or old.body == come.version.body:
            return False
        stored = StoredBody(old, lambda: read_content(self._store, old))
        new = StoredBody(come.version, lambda: come.body.read_at(0, come.version.body.size))
        return not await asyncio.to_thread(self._plugins.is_new_version, come.key, stored, new)

    async def _freshen_instead(self, come: Come, old: Version) -> Outcome:
        """The stored bytes stay, and with them the fields that tell of them; the rest is as a 304 would say
        it (RFC 9111 §3.2)."""
        version = come.version
        head = Response(304, b"", without_content(version.fields))
        freshened = rules.freshen(old, head, version.requested_at, version.received_at)
        come.body.abort()
        renewed = await self.confirm(come.key, come.plan(freshened, self._clock()))
        return Outcome("freshened", renewed)

    # -- storing ------------------------------------------------------------------------------------------
    async def _add(self, come: Come) -> Outcome:
        retain = self._plugins.hook("retain") or self._plugins.events.wanted("evicted")
        retention = _ALL if retain else come.retention
        now = self._clock()
        adding = self._store.add_version(
            come.key, come.version, come.body, retention, now=now, patient=come.patient
        )
        outcome = await self._landings.of(adding)
        if not retain:
            return outcome
        dropped = await self._retain(come)
        return replace(outcome, dropped=(*outcome.dropped, *dropped))

    async def _retain(self, come: Come) -> tuple[str, ...]:
        versions = self._store.versions(come.key.id)
        going = self._plugins.retained(come.key, versions, come.retention, self._clock())
        for version in going:
            await self._landings.of(self._store.delete(come.key.id, version.name))
            self._plugins.events.post("evicted", key=come.key, version=version, reason="retention")
        return tuple(version.name for version in going)

    def _tell(self, key: CacheKey, outcome: Outcome, previous: Version | None) -> None:
        events, version = self._plugins.events, outcome.version
        if outcome.kind == "freshened":
            events.post("freshened", key=key, version=version)
            return
        events.post("stored", key=key, version=version)
        if outcome.changed and previous is not None:
            events.post("changed", key=key, version=version, previous=previous)


def without_content(fields: Fields) -> Fields:
    """The fields that are true of a resource, whichever of its bytes are kept."""
    return tuple(
        pair
        for pair in fields
        if pair[0].lower() not in _OF_THE_CONTENT and not pair[0].lower().startswith(b"content-")
    )


def read_content(store: Store, version: Version) -> bytes:
    """All bytes of a version. Raises BodyMissing."""
    body = store.open_body(version.body)
    try:
        return body.read_at(0, version.body.size)
    finally:
        body.close()
