"""The work of one flight: a request to the origin to its very end.

    ask ── 304 that confirms ──────────────> Validated   the version is freshened in the store
        ── no answer, or 5xx with a stored
           version that may step in ───────> Failed
        ── anything else ──────────────────> Arriving    streamed to all who ride, and stored if it may be

The outcome is resolved as soon as it is known; the coroutine ends when the version is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from buffy_proxy.config import Config
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import BodyRef, Response, Version
from buffy_proxy.core.strategies import Renewal
from buffy_proxy.errors import OriginError, StoreError
from buffy_proxy.flights import Arriving, Failed, Flight, Validated
from buffy_proxy.lookup import Looked
from buffy_proxy.origin import OriginResponse, Origins
from buffy_proxy.spool import Spool
from buffy_proxy.store import BodyWriter, Store

log = logging.getLogger("buffy.fetch")

HOLD_BYTES = 256 * 1024
HOLD_S = 2.0
"""When an older version could answer instead, this much of a new response is awaited before its head goes
out: a small body that turns out truncated is then replaced by the stored version."""

Asking = rules.Validate | rules.Forward


class Fetcher:
    """Stateless but for its collaborators; `not_storable` is told the key ids of what could not be stored."""

    def __init__(
        self,
        store: Store,
        config: Config,
        origins: Origins,
        clock: Callable[[], float],
        not_storable: Callable[[str], None],
    ) -> None:
        self._store = store
        self._config = config
        self._origins = origins
        self._clock = clock
        self._not_storable = not_storable

    async def lead(self, flight: Flight, looked: Looked, decision: Asking) -> None:
        """Resolves the flight's outcome, and ends when all is stored."""
        try:
            if _renewal(decision) is Renewal.COMPARE_SIZE and await self._same_size(flight, looked, decision):
                return
            await self._ask(flight, looked, decision)
        except OriginError as error:
            flight.resolve(Failed(error))

    def as_failure(self, looked: Looked, head: Response) -> Failed | None:
        """Does this answer count as the origin failing? Only where a stored version can step in.

        Server errors and throttling do; other errors only for strategies that keep what the origin no longer
        has.
        """
        failing = head.status == 429 or head.status >= 500
        if not failing and (head.status < 400 or looked.policy.strategy.obeys_origin):
            return None
        if looked.fallback(self._clock()) is None:
            return None
        error = OriginError("http_response_error", f"the origin answered {head.status}")
        return Failed(error, head.status, f.retry_after(head.fields, self._clock()))

    # -- asking -------------------------------------------------------------------------------------------
    async def _ask(self, flight: Flight, looked: Looked, decision: Asking) -> None:
        request = looked.request
        fields = rules.forward_fields(request, drop_conditionals=True)
        prior = decision.version if isinstance(decision, rules.Validate) else None
        validating = prior if _renewal(decision) is Renewal.VALIDATE else None
        if validating is not None:
            fields += rules.conditional_fields(validating)
        requested_at = self._clock()
        origin = await self._origins.fetch(request.method, request.url, fields, request.body)
        received_at = self._clock()
        try:
            if origin.head.status == 304 and validating is not None:
                if not rules.confirms(validating, origin.head):
                    await self._ask(flight, looked, rules.Forward("stale", "the 304 named another version"))
                    return
                freshened = rules.freshen(validating, origin.head, requested_at, received_at)
                await self._confirm(flight, looked, freshened, origin)
            elif failed := self.as_failure(looked, origin.head):
                flight.resolve(failed)
                await origin.drain()
            else:
                await self._receive(flight, looked, origin, requested_at, received_at)
        finally:
            origin.abort()

    async def _same_size(self, flight: Flight, looked: Looked, decision: Asking) -> bool:
        """`when_remote_changed` without validators: a HEAD whose Content-Length equals ours confirms the
        version. False: fetch it."""
        assert isinstance(decision, rules.Validate)
        version, requested_at = decision.version, self._clock()
        fields = rules.forward_fields(looked.request, drop_conditionals=True)
        origin = await self._origins.fetch("HEAD", looked.request.url, fields)
        await origin.drain()
        if origin.head.status != 200 or origin.size != version.body.size:
            return False
        freshened = rules.freshen(version, origin.head, requested_at, self._clock())
        await self._confirm(flight, looked, freshened, origin)
        return True

    async def _confirm(
        self, flight: Flight, looked: Looked, freshened: Version, origin: OriginResponse
    ) -> None:
        version = rules.planned(freshened, looked.policy, looked.key, self._clock())
        try:
            version = await asyncio.wrap_future(self._store.update_version(version))
        except StoreError as error:
            log.debug("validation of %s not noted: %s", looked.key.url, error)
        flight.resolve(Validated(version, origin.head.status))
        await origin.drain()

    # -- receiving ----------------------------------------------------------------------------------------
    async def _receive(
        self, flight: Flight, looked: Looked, origin: OriginResponse, requested_at: float, received_at: float
    ) -> None:
        """A new response: stream it to all, and into the store if it may go there."""
        verdict = rules.storability(looked.request, origin.head, looked.policy, looked.key, received_at)
        writer = None
        if isinstance(verdict, rules.DoNotStore):
            self._not_storable(looked.key.id)
        else:
            writer = self._new_body(origin.size)
        reason = verdict.reason if isinstance(verdict, rules.DoNotStore) else ""
        draft = _draft(looked, origin, requested_at, received_at)
        spool = Spool(writer)
        pump = asyncio.ensure_future(self._pump(origin, spool))
        try:
            await self._hold(flight, looked, origin.head, spool)
            flight.resolve(Arriving(origin.head, draft, origin.size, spool, writer is not None, reason))
            await pump
            if spool.ref is not None:
                await self._keep(looked, replace(draft, body=spool.ref), verdict, spool)
        finally:
            pump.cancel()
            spool.release()

    async def _hold(self, flight: Flight, looked: Looked, head: Response, spool: Spool) -> None:
        """Where a stored version could answer instead: a moment to see whether the new one comes whole."""
        if looked.fallback(self._clock()) is None or _streams(head):
            return
        await spool.settled(HOLD_BYTES, HOLD_S)
        if isinstance(spool.error, OriginError):
            flight.resolve(Failed(spool.error))

    async def _pump(self, origin: OriginResponse, spool: Spool) -> None:
        try:
            async for chunk in origin.chunks():
                await spool.feed(chunk)
                if spool.storing and spool.received > self._config.max_size // 2:
                    spool.stop_storing()
            await spool.finish()
        except OriginError as error:
            spool.fail(error)
        except BaseException as error:
            # Readers must never wait for what does not come.
            spool.fail(OriginError("connection_terminated", f"the transfer was dropped: {error!r}"))
            raise

    async def _keep(self, looked: Looked, version: Version, verdict: rules.Storability, spool: Spool) -> None:
        key, now = looked.key, self._clock()
        try:
            if isinstance(verdict, rules.StoreError):
                version = replace(version, fresh_until=verdict.until)
                await asyncio.wrap_future(self._store.put_error(key, version, spool.writer, now=now))
            else:
                version = rules.planned(version, looked.policy, key, now)
                retention = looked.policy.retention
                await asyncio.wrap_future(
                    self._store.add_version(key, version, spool.writer, retention, now=now)
                )
        except StoreError as error:
            log.debug("%s not stored: %s", key.url, error)

    def _new_body(self, size: int | None) -> BodyWriter | None:
        """None where there is plainly no room; a body of half the cap would push out all others."""
        if size is not None and size > self._config.max_size // 2:
            return None
        try:
            return self._store.new_body()
        except StoreError:
            return None


def _renewal(decision: Asking) -> Renewal:
    return decision.renewal if isinstance(decision, rules.Validate) else Renewal.REFETCH


def _draft(looked: Looked, origin: OriginResponse, requested_at: float, received_at: float) -> Version:
    return Version(
        resource_id=looked.key.id,
        name="",
        status=origin.head.status,
        reason=origin.head.reason,
        fields=f.end_to_end(origin.head.fields),
        body=BodyRef("", origin.size or 0),
        request_fields=rules.without_secrets(looked.request.fields),
        requested_at=requested_at,
        received_at=received_at,
        cached_at=received_at,
        validated_at=received_at,
        fresh_until=received_at,
    )


def _streams(head: Response) -> bool:
    kind = f.first(head.fields, b"content-type") or b""
    return kind.lower().startswith(b"text/event-stream")
