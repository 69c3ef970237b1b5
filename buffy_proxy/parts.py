"""Keeps the parts that pass by on their way to a client (core/parts.py says which, and how they combine).

The client's bytes never wait for the store, but the commit begins before the last of them goes out, and
`landing` lets the next request for that resource wait for it: so a copy of a range request is a hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from buffy_proxy.core import parts, rules
from buffy_proxy.core.model import BodyRef, Version
from buffy_proxy.errors import StoreError
from buffy_proxy.flights import Flights, Watch
from buffy_proxy.keeping import Come, Keeper
from buffy_proxy.lookup import Looked
from buffy_proxy.origin import OriginResponse
from buffy_proxy.spool import INLINE, READ_SIZE
from buffy_proxy.store import BodyWriter, Store

log = logging.getLogger("buffy.cache")

MAX_PART = 64 << 20
"""Bytes: longer parts, and unions, are passed on only; combining copies them."""


@dataclass(eq=False, slots=True)
class Passing:
    """A 206 on its way to a client that may be kept; `draft` is the part without its content; `watch`: was
    the resource changed meanwhile? Then it is not kept."""

    looked: Looked
    origin: OriginResponse
    draft: Version
    watch: Watch


class PartKeeper:
    """The writing side. Everything it does may fail without a client noticing."""

    def __init__(self, store: Store, flights: Flights, keeper: Keeper, clock: Callable[[], float]) -> None:
        self._store = store
        self._flights = flights
        self._keeper = keeper
        self._clock = clock
        self._landing: dict[str, asyncio.Task[None]] = {}
        self._passing: set[Passing] = set()

    def landing(self, key_id: str) -> asyncio.Task[None] | None:
        """The commit of a part of this resource that is under way."""
        return self._landing.get(key_id)

    def outdate(self, key_id: str) -> bool:
        """The resource was changed by an unsafe request: what is on its way is not kept. Gives whether there
        is anything."""
        found = [passing for passing in self._passing if passing.looked.key.id == key_id]
        for passing in found:
            passing.watch.outdate()
        return bool(found)

    def keeps(self, looked: Looked, origin: OriginResponse, requested_at: float) -> Passing | None:
        """The part that an answer brings, None where nothing of it is kept."""
        now = self._clock()
        if rules.storable_part(looked.request, origin.head, looked.policy, now) is not None:
            return None
        if origin.size is not None and origin.size > MAX_PART:
            return None
        draft = rules.planned(_draft(looked, origin, requested_at, now), looked.policy, looked.key, now)
        watch = self._flights.watch(looked.key.id)
        return Passing(looked, origin, draft, watch) if draft.fresh_until > now else None

    async def recording(self, passing: Passing) -> AsyncIterator[bytes]:
        """The chunks of the answer; what went through whole is kept."""
        writer = self._new_body()
        size, begun = passing.origin.size, False
        self._passing.add(passing)
        try:
            async for chunk in passing.origin.chunks():
                writer = await _write(writer, chunk)
                if writer is not None and writer.size == size:
                    begun = self._land(passing, writer)
                yield chunk
            if writer is not None and not begun:
                begun = self._land(passing, writer)
        finally:
            if writer is not None and not begun:
                writer.abort()
                writer.close()
            if not begun:
                self._passing.discard(passing)

    # -- inside -------------------------------------------------------------------------------------------
    def _new_body(self) -> BodyWriter | None:
        try:
            return self._store.new_body()
        except StoreError:
            return None

    def _land(self, passing: Passing, writer: BodyWriter) -> bool:
        key_id = passing.looked.key.id
        task = asyncio.ensure_future(self._commit(passing, writer))
        self._landing[key_id] = task
        self._flights.hold(key_id, task)

        def landed(_: object) -> None:
            if self._landing.get(key_id) is task:
                del self._landing[key_id]

        task.add_done_callback(landed)
        return True

    async def _commit(self, passing: Passing, writer: BodyWriter) -> None:
        try:
            part = replace(passing.draft, body=await asyncio.to_thread(writer.finish))
            if not passing.watch.outdated and parts.span(part.fields, part.body.size) is not None:
                await self._keep(passing.looked, part, writer)
            if passing.watch.outdated:  # perhaps only since it went to the store
                await asyncio.wrap_future(self._store.invalidate(passing.looked.key.id))
        except StoreError as error:
            log.debug("a part of %s was not stored: %s", passing.looked.key.url, error)
        except Exception:
            log.exception("a part of %s was not stored", passing.looked.key.url)
        finally:
            self._passing.discard(passing)
            writer.close()

    async def _keep(self, looked: Looked, part: Version, writer: BodyWriter) -> None:
        old = self._store.error_response(looked.key.id)
        whole = parts.union(old, part) if old is not None and old.status == parts.PARTIAL else None
        if old is None or whole is None or not part.body.size < whole.size <= MAX_PART:
            await self._keeper.keep_error(looked.key, part, writer)
            return
        combined = self._store.new_body()
        try:
            await asyncio.to_thread(self._combine, combined, old, part, writer)
            version = replace(parts.combined_head(part, whole), body=combined.finish())
            if version.status == parts.PARTIAL:
                await self._keeper.keep_error(looked.key, version, combined)
            else:
                come = Come(looked.key, version, combined, looked.policy.retention, _as_planned(looked))
                await self._keeper.keep(come)
        finally:
            combined.close()

    def _combine(self, into: BodyWriter, old: Version, new: Version, fresh: BodyWriter) -> None:
        with contextlib.closing(self._store.open_body(old.body)) as stored:
            for version, offset, length in parts.pieces(old, new):
                source = stored if version is old else fresh
                for at in range(offset, offset + length, READ_SIZE):
                    into.write(source.read_at(at, min(READ_SIZE, offset + length - at)))


def _as_planned(looked: Looked) -> Callable[[Version, float], Version]:
    return lambda version, now: rules.planned(version, looked.policy, looked.key, now)


async def _write(writer: BodyWriter | None, chunk: bytes) -> BodyWriter | None:
    """The writer, or None once it cannot go on."""
    if writer is None:
        return None
    try:
        if writer.size + len(chunk) > MAX_PART:
            raise StoreError("longer than parts that are kept")
        if writer.size + len(chunk) <= INLINE:
            writer.write(chunk)
        else:
            await asyncio.to_thread(writer.write, chunk)
    except StoreError:
        writer.abort()
        writer.close()
        return None
    return writer


def _draft(looked: Looked, origin: OriginResponse, requested_at: float, now: float) -> Version:
    head = origin.head
    return Version(
        resource_id=looked.key.id,
        name="",
        status=head.status,
        reason=head.reason,
        fields=rules.without_named(parts.stored_fields(head), looked.policy.targets),
        body=BodyRef("", 0),
        request_fields=rules.without_secrets(looked.request.fields),
        requested_at=requested_at,
        received_at=now,
        cached_at=now,
        validated_at=now,
        fresh_until=now,
    )
