"""Carrying orders out: in the proxy process, collapsed with what clients of the proxy ask for.

What is to be done stands in the store (orders.py), so an order that was running when its process was killed
is simply pending, and taken up again. A broken transfer is resumed (resume.py); an attempt that failed is
repeated after a pause that doubles, or after what Retry-After said, up to ATTEMPTS times. While an order
runs, its record tells the progress; progress only grows, whatever happens on the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from buffy_proxy.bell import Bell
from buffy_proxy.cache import Cache, failure_in
from buffy_proxy.core.fields import origin_of
from buffy_proxy.core.model import Resource
from buffy_proxy.duty import on_duty
from buffy_proxy.errors import OriginError, StoreError
from buffy_proxy.flights import Arriving, Failed, Flight
from buffy_proxy.orders import Order, OrderBook, wanted_of
from buffy_proxy.slots import Slots

log = logging.getLogger("buffy.orders")

POLL_S = 1.0
PROGRESS_S = 0.2
TIDY_S = 60.0
ATTEMPTS = 6
PAUSE_S = 1.0
PAUSE_MAX_S = 60.0
RETRY_AFTER_MAX_S = 600.0
FINAL = frozenset({400, 401, 403, 404, 405, 406, 410, 411, 413, 414, 415, 416, 421, 422, 451, 501})
"""Answers that another attempt would only repeat."""


class OrderRunner:
    """`run` until cancelled; only one process of a data directory really does."""

    def __init__(self, cache: Cache, slots: Slots, clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._store = cache.store
        self._book = OrderBook(cache.store)
        self._events = cache.config.plugins.events
        self._slots = slots
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tidied_at = 0.0

    async def run(self) -> None:
        data_dir = self._cache.config.data_dir
        async with on_duty(data_dir / "orders.lock"):
            bell = Bell(data_dir)
            try:
                while True:
                    self._take_up()
                    self._tidy()
                    await bell.wait(POLL_S)
            finally:
                bell.close()
                for task in self._running.values():
                    task.cancel()

    def _tidy(self) -> None:
        if self._clock() - self._tidied_at > TIDY_S:
            self._tidied_at = self._clock()
            self._book.forget_old(self._tidied_at)

    # -- choosing -----------------------------------------------------------------------------------------
    def _take_up(self) -> None:
        try:
            for order in list(self._book.pending()):
                if self._slots.all_taken:
                    return
                self._consider(order)
        except StoreError as error:
            log.error("cannot read the orders: %s", error)

    def _consider(self, order: Order) -> None:
        if order.resource_id in self._running or self._clock() < order.not_before:
            return
        resource = self._store.resource(order.resource_id)
        if resource is None:
            self._fail(order, "what was ordered has been removed meanwhile")
            return
        try:
            host = origin_of(wanted_of(resource).request().url)[1]
        except ValueError as error:
            self._fail(order, str(error))
            return
        if not self._slots.take(host):
            return
        task = asyncio.ensure_future(self._attempt(order, resource))
        self._running[order.resource_id] = task
        task.add_done_callback(lambda _: self._done(order.resource_id, host))

    def _done(self, resource_id: str, host: str) -> None:
        del self._running[resource_id]
        self._slots.release(host)

    # -- one attempt --------------------------------------------------------------------------------------
    async def _attempt(self, order: Order, resource: Resource) -> None:
        now = self._clock()
        order = replace(
            order, status="in_progress", attempts=order.attempts + 1, started_at=order.started_at or now
        )
        try:
            flight = await self._cache.fetch_ordered(resource, order.name)
            if flight is None:
                self._answered_already(order)
                return
            self._book.put_soon(order)
            order, failed = await self._follow(order, flight)
            self._end(order, flight, failed)
        except ValueError as error:
            self._fail(order, str(error))
        except Exception as error:
            log.exception("cannot carry out an order for %s", resource.key.url)
            self._retry_or_fail(order, Failed(OriginError("proxy_internal_error", repr(error))))

    async def _follow(self, order: Order, flight: Flight) -> tuple[Order, Failed | None]:
        """Notes the progress until the flight has ended; leaves it early if its answer is of no use."""
        flight.enter()
        try:
            while not _over(flight):
                await flight.ended(PROGRESS_S)
                if (seen := _with_progress(order, flight)) != order:
                    order = seen
                    self._book.put_soon(order)
            return _with_progress(order, flight), _failure(flight)
        finally:
            flight.leave()

    def _end(self, order: Order, flight: Flight, failed: Failed | None) -> None:
        outcome = flight.known()
        if isinstance(outcome, Arriving) and not outcome.stored and outcome.response.status < 400:
            self._fail(order, f"the answer cannot be stored: {outcome.not_stored_because}")
        elif failed is not None:
            self._retry_or_fail(order, failed)
        elif flight.result is None:
            self._fail(order, "the answer could not be stored; see the server's log")
        else:
            self._finish(order, flight.result.version.name)

    def _answered_already(self, order: Order) -> None:
        versions = self._store.versions(order.resource_id)
        if versions:
            self._finish(order, versions[0].name)

    def _finish(self, order: Order, name: str) -> None:
        own = name == order.name
        size = order.total if order.total is not None else order.downloaded
        self._close(
            replace(
                order,
                status="ready" if own else "duplicate",
                result=name,
                finished_at=self._clock(),
                downloaded=size,
                total=size,
            )
        )

    def _retry_or_fail(self, order: Order, failed: Failed) -> None:
        if order.attempts >= ATTEMPTS or failed.status in FINAL:
            self._fail(order, str(failed.error))
            return
        pause = min(PAUSE_S * 2 ** (order.attempts - 1), PAUSE_MAX_S)
        if failed.retry_after_s is not None:
            pause = min(max(failed.retry_after_s, 0.1), RETRY_AFTER_MAX_S)
        log.info("order %s/%s: %s; again in %g s", order.resource_id, order.name, failed.error, pause)
        self._book.put_soon(replace(order, not_before=self._clock() + pause, error=str(failed.error)))

    def _fail(self, order: Order, why: str) -> None:
        log.warning("order %s/%s failed: %s", order.resource_id, order.name, why)
        self._close(replace(order, status="failed", error=why, finished_at=self._clock()))

    def _close(self, order: Order) -> None:
        """The last record of an order; plugins hear of it once it is committed."""
        writing = self._book.put_soon(order)
        if self._events.wanted("order_finished") and (found := self._store.resource(order.resource_id)):
            writing.add_done_callback(
                lambda _: self._events.post("order_finished", key=found.key, order=order)
            )


def _over(flight: Flight) -> bool:
    outcome = flight.known()
    useless = isinstance(outcome, Failed) or (
        isinstance(outcome, Arriving) and (outcome.response.status >= 400 or not outcome.stored)
    )
    return useless or flight.task is None or flight.task.done()


def _failure(flight: Flight) -> Failed | None:
    failed = failure_in(flight)
    outcome = flight.known()
    if failed is not None and failed.retry_after_s is None and isinstance(outcome, Arriving):
        return replace(failed, retry_after_s=outcome.retry_after_s)
    return failed


def _with_progress(order: Order, flight: Flight) -> Order:
    outcome = flight.known()
    if not isinstance(outcome, Arriving) or outcome.response.status >= 400:
        return order
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in outcome.draft.fields)
    return replace(
        order,
        downloaded=max(order.downloaded, outcome.spool.received),
        total=outcome.size,
        fields=fields,
    )
