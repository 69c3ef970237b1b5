"""The work of one flight: a request to the origin to its very end.

    ask ── 304 that confirms ──────────────> Validated   the version is freshened in the store
        ── no answer, or 5xx with a stored
           version that may step in ───────> Failed
        ── anything else ──────────────────> Arriving    streamed to all who ride, and stored if it may be

The outcome is resolved as soon as it is known; the coroutine ends when the version is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from buffy_proxy.config import Config
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import BodyRef, Request, Response, Version
from buffy_proxy.core.strategies import Renewal
from buffy_proxy.errors import OriginError, StoreError
from buffy_proxy.flights import SMALL_REST, Arriving, Failed, Flight, Validated
from buffy_proxy.keeping import Come, Keeper
from buffy_proxy.lookup import Looked
from buffy_proxy.origin import OriginResponse, Origins
from buffy_proxy.resume import resuming
from buffy_proxy.spool import INLINE, Spool
from buffy_proxy.store import BodyWriter, Outcome, Store

log = logging.getLogger("buffy.fetch")

HOLD_BYTES = 256 * 1024
HOLD_S = 2.0
"""When an older version could answer instead, this much of a new response is awaited before its head goes
out: a small body that turns out truncated is then replaced by the stored version."""

MAX_REDIRECTS = 10

Asking = rules.Validate | rules.Forward


@dataclass(frozen=True, slots=True)
class Errand:
    """What a flight is sent for.

    name    the name that was announced for the version it brings; "" lets the store choose
    follow  redirects are followed and the final representation is what is stored (orders do; clients behind
            the proxy follow for themselves)
    """

    looked: Looked
    asking: Asking
    name: str = ""
    follow: bool = False

    def planned(self, version: Version, now: float) -> Version:
        """With what the strategy plans; the request of an order is on record and can be repeated."""
        return rules.planned(version, self.looked.policy, self.looked.key, now, repeatable=self.follow)

    @property
    def renewal(self) -> Renewal:
        return self.asking.renewal if isinstance(self.asking, rules.Validate) else Renewal.REFETCH

    @property
    def validating(self) -> Version | None:
        """The version that a conditional request is about."""
        asking = self.asking
        if isinstance(asking, rules.Validate) and asking.renewal is Renewal.VALIDATE:
            return asking.version
        return None


@dataclass(frozen=True, slots=True)
class _Coming:
    """A response whose head is here; `request` is the one it answers, after redirects."""

    request: Request
    origin: OriginResponse
    requested_at: float
    received_at: float


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
        self._plugins = config.plugins
        self._keeper = Keeper(store, config.plugins, clock)

    async def lead(self, flight: Flight, errand: Errand) -> None:
        """Resolves the flight's outcome, and ends when all is stored."""
        try:
            if errand.renewal is Renewal.COMPARE_SIZE and await self._same_size(flight, errand):
                return
            await self._ask(flight, errand)
        except OriginError as error:
            self.tell_failure(errand.looked, Failed(error))
            flight.resolve(Failed(error))

    def tell_failure(self, looked: Looked, failed: Failed) -> None:
        """For plugins: the origin gave no usable answer."""
        self._plugins.events.post("origin_failed", key=looked.key, error=failed.failure)

    def as_failure(self, looked: Looked, head: Response) -> Failed | None:
        """Does this answer count as the origin failing? Only where a stored version can step in.

        Server errors and throttling do; other errors only for strategies that keep what the origin no longer
        has.
        """
        failing = head.status == 429 or head.status >= 500
        if not failing and (head.status < 400 or looked.policy.strategy.obeys_origin):
            return None
        error = OriginError("http_response_error", f"the origin answered {head.status}")
        failed = Failed(error, head.status, f.retry_after(head.fields, self._clock()))
        if failing:
            self.tell_failure(looked, failed)
        return None if looked.fallback(failed.failure, self._clock()) is None else failed

    # -- asking -------------------------------------------------------------------------------------------
    async def _ask(self, flight: Flight, errand: Errand) -> None:
        validating = errand.validating
        requested_at = self._clock()
        request, origin = await self._final_response(errand, "GET")
        received_at = self._clock()
        try:
            if origin.head.status == 304 and validating is not None:
                if not rules.confirms(validating, origin.head):
                    forward = rules.Forward("stale", "the 304 named another version")
                    await self._ask(flight, replace(errand, asking=forward))
                    return
                freshened = _freshened(errand.looked, validating, origin.head, requested_at, received_at)
                await self._confirm(flight, errand, freshened, origin)
            elif failed := self.as_failure(errand.looked, origin.head):
                flight.resolve(failed)
                await origin.drain()
            else:
                await self._receive(flight, errand, _Coming(request, origin, requested_at, received_at))
        finally:
            origin.abort()

    async def _final_response(self, errand: Errand, get: str) -> tuple[Request, OriginResponse]:
        """The response to the request, or, where the errand says so, to the last of its redirects. `get` is
        the method used for GET (or HEAD, to learn the size only)."""
        request = errand.looked.request
        validating = errand.validating
        conditions = () if validating is None else rules.conditional_fields(validating)
        for _ in range(MAX_REDIRECTS):
            method = get if request.method == "GET" else request.method
            fields = rules.forward_fields(request, drop_conditionals=True) + conditions
            origin = await self._origins.fetch(method, request.url, fields, request.body)
            following = rules.redirected(request, origin.head) if errand.follow else None
            if following is None:
                return request, origin
            await origin.drain()
            request = following
        raise OriginError("http_response_error", f"more than {MAX_REDIRECTS} redirects")

    async def _same_size(self, flight: Flight, errand: Errand) -> bool:
        """`when_remote_changed` without validators: a HEAD whose Content-Length equals ours confirms the
        version. False: fetch it."""
        assert isinstance(errand.asking, rules.Validate)
        version, requested_at = errand.asking.version, self._clock()
        _, origin = await self._final_response(errand, "HEAD")
        await origin.drain()
        if origin.head.status != 200 or origin.size != version.body.size:
            return False
        freshened = rules.freshen(version, origin.head, requested_at, self._clock())
        await self._confirm(flight, errand, freshened, origin)
        return True

    async def _confirm(
        self, flight: Flight, errand: Errand, freshened: Version, origin: OriginResponse
    ) -> None:
        version = _unless_outdated(flight, errand.planned(freshened, self._clock()))
        try:
            version = await self._keeper.confirm(errand.looked.key, version)
        except StoreError as error:
            log.debug("validation of %s not noted: %s", errand.looked.key.url, error)
        flight.result = Outcome("freshened", version)
        flight.resolve(Validated(version, origin.head.status))
        await origin.drain()

    # -- receiving ----------------------------------------------------------------------------------------
    async def _receive(self, flight: Flight, errand: Errand, coming: _Coming) -> None:
        """A new response: stream it to all, and into the store if it may go there."""
        looked, origin = errand.looked, coming.origin
        verdict = self._plugins.storability(
            looked.request, origin.head, looked.policy, looked.key, coming.received_at
        )
        writer = None
        if isinstance(verdict, rules.DoNotStore):
            self._not_storable(looked.key.id)
        else:
            writer = self._new_body(origin.size)
        reason = "" if writer is not None else self._why_not(verdict, origin.size)
        draft = self._draft(errand, coming)
        spool = Spool(writer)
        pump = None
        try:
            if origin.arrived and (origin.size or 0) <= INLINE:
                await self._pump(flight, coming, spool)
            else:
                pump = asyncio.ensure_future(self._pump(flight, coming, spool))
                await self._hold(flight, looked, origin.head, spool)
            wait = f.retry_after(origin.head.fields, self._clock())
            stored = writer is not None
            flight.resolve(Arriving(origin.head, draft, origin.size, spool, stored, reason, wait))
            await (pump if pump is not None else asyncio.sleep(0))  # the clients first, then the store
            if isinstance(spool.error, OriginError) and not flight.unattended:
                self.tell_failure(looked, Failed(spool.error))
            if spool.ref is not None and _intact(origin.head, spool.ref):
                version = replace(draft, body=spool.ref)
                flight.result = await self._keep(flight, errand, version, verdict, spool)
                if flight.watch.outdated:  # perhaps only since it went to the store
                    await asyncio.wrap_future(self._store.invalidate(looked.key.id))
        finally:
            if pump is not None:
                pump.cancel()
            flight.when_left(spool.release)

    def _draft(self, errand: Errand, coming: _Coming) -> Version:
        looked, origin = errand.looked, coming.origin
        fields = f.end_to_end(origin.head.fields)
        if looked.policy.strategy.obeys_origin:
            fields = rules.without_named(fields, looked.policy.targets)
        if coming.request.url != looked.request.url:
            # The representation is that of the redirect's target (RFC 9110 §8.7); its URL may be signed.
            url = rules.redact_url(coming.request.url, self._store.secret)
            fields = f.with_field(fields, b"Content-Location", url.encode())
        return Version(
            resource_id=looked.key.id,
            name=errand.name,
            status=origin.head.status,
            reason=origin.head.reason,
            fields=fields,
            body=BodyRef("", origin.size or 0),
            request_fields=rules.without_secrets(looked.request.fields),
            requested_at=coming.requested_at,
            received_at=coming.received_at,
            cached_at=coming.received_at,
            validated_at=coming.received_at,
            fresh_until=coming.received_at,
        )

    async def _hold(self, flight: Flight, looked: Looked, head: Response, spool: Spool) -> None:
        """Where a stored version could answer instead: a moment to see whether the new one comes whole."""
        failure = rules.OriginFailure("http_response_incomplete", "the content may yet end early")
        if looked.fallback(failure, self._clock()) is None or _streams(head):
            return
        await spool.settled(HOLD_BYTES, HOLD_S)
        if isinstance(spool.error, OriginError):
            flight.resolve(Failed(spool.error))

    async def _pump(self, flight: Flight, coming: _Coming, spool: Spool) -> None:
        try:
            chunks = resuming(self._origins, coming.request, coming.origin, self._clock)
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    await spool.feed(chunk)
                    if spool.storing and spool.received > self._config.max_size:
                        spool.stop_storing()
                    if coming.origin.size is None and flight.unattended and spool.received > SMALL_REST:
                        raise OriginError("connection_terminated", "everybody left")
            await spool.finish()
        except OriginError as error:
            spool.fail(error)
        except BaseException as error:
            # Readers must never wait for what does not come.
            spool.fail(OriginError("connection_terminated", _dropped(error)))
            raise

    async def _keep(
        self, flight: Flight, errand: Errand, version: Version, verdict: rules.Storability, spool: Spool
    ) -> Outcome | None:
        """What the store made of it; None for an error response, or where it could not be stored."""
        looked, body = errand.looked, spool.writer
        key = looked.key
        try:
            if isinstance(verdict, rules.StoreError):
                version = replace(version, name="", fresh_until=verdict.until)
                await self._keeper.keep_error(key, version, body)
                return None
            version = _unless_outdated(flight, errand.planned(version, self._clock()))
            patient = not errand.follow
            come = Come(key, version, body, looked.policy.retention, errand.planned, patient)
            return await self._keeper.keep(come)
        except StoreError as error:
            log.debug("%s not stored: %s", key.url, error)
            return None

    def _why_not(self, verdict: rules.Storability, size: int | None) -> str:
        if isinstance(verdict, rules.DoNotStore):
            return verdict.reason
        if size is not None and size > self._config.max_size:
            return "larger than max_size"
        return "the store has no room"

    def _new_body(self, size: int | None) -> BodyWriter | None:
        """None where there is plainly no room."""
        if size is not None and size > self._config.max_size:
            return None
        try:
            return self._store.new_body()
        except StoreError:
            return None


def _freshened(
    looked: Looked, version: Version, head: Response, requested_at: float, received_at: float
) -> Version:
    """Freshened, without fields that must not be stored."""
    freshened = rules.freshen(version, head, requested_at, received_at)
    if not looked.policy.strategy.obeys_origin:
        return freshened
    return replace(freshened, fields=rules.without_named(freshened.fields, looked.policy.targets))


def _unless_outdated(flight: Flight, version: Version) -> Version:
    """What was changed while it was on its way is stored as invalid from the start: no moment as a hit."""
    return replace(version, fresh_until=-math.inf) if flight.watch.outdated else version


def _dropped(error: BaseException) -> str:
    why = "" if isinstance(error, asyncio.CancelledError) else f": {error!r}"
    return f"the transfer was dropped{why}"


def _intact(head: Response, ref: BodyRef) -> bool:
    """Whether the bytes are those that the origin's own digest names; a body it disowns is not stored."""
    declared = f.declared_sha256(head.fields)
    if declared is None or declared == ref.digest:
        return True
    log.warning("a body does not match its Content-Digest; it is not stored")
    return False


def _streams(head: Response) -> bool:
    kind = f.first(head.fields, b"content-type") or b""
    return kind.lower().startswith(b"text/event-stream")
