"""What the answers to other requests say about what is stored: RFC 9111 §4.3.5 and §4.4, RFC 9110 §9.3.3.

An unsafe request that succeeded makes what is stored for its URLs invalid; a 200 to HEAD freshens a stored
GET, or tells that it changed; an answer to POST may be what a GET would give.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from buffy_proxy import posted
from buffy_proxy.config import Config
from buffy_proxy.core import rules
from buffy_proxy.core.model import Request, Response, Version
from buffy_proxy.errors import StoreError
from buffy_proxy.flights import Flights
from buffy_proxy.keeping import Keeper
from buffy_proxy.lookup import Looked, look_up
from buffy_proxy.parts import PartKeeper
from buffy_proxy.posted import Recording
from buffy_proxy.store import Store

log = logging.getLogger("buffy.cache")


class Changes:
    """Never raises for the store's sake."""

    def __init__(
        self,
        store: Store,
        config: Config,
        flights: Flights,
        parts: PartKeeper,
        keeper: Keeper,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._config = config
        self._flights = flights
        self._parts = parts
        self._keeper = keeper
        self._clock = clock

    async def invalidate(self, request: Request, head: Response) -> None:
        """After an unsafe method succeeded: what is stored for its URLs must be validated (RFC 9111 §4.4),
        but for what the user wants kept whatever the origin says."""
        for url in rules.invalidated_urls(request, head):
            get = Request("GET", url, request.fields, group=request.group)
            try:
                looked = look_up(self._store, self._config, get)
                if not looked.policy.strategy.obeys_origin:
                    continue
                coming = self._outdate(looked.key.id)
                if looked.versions or looked.error or coming:
                    await asyncio.wrap_future(self._store.invalidate(looked.key.id))
            except StoreError as error:
                log.error("cannot invalidate %s: %s", rules.redact_url(url, self._store.secret), error)

    def _outdate(self, key_id: str) -> bool:
        """A response that is still on its way was asked for before the resource changed: it is stored, but
        must be validated as well. Gives whether there is one, or may be: other workers see the mark, and one
        of them may just have stored it."""
        part, flight, table = self._parts.outdate(key_id), self._flights.get(key_id), self._flights.table
        if flight is not None:
            flight.watch.outdate()
        if table is not None:
            table.outdate(key_id)
        return part or flight is not None or table is not None

    async def by_head(self, looked: Looked, head: Response, requested_at: float) -> Version | None:
        """What a 200 to HEAD says about the stored version (RFC 9111 §4.3.5): the version freshened, or None
        where there is none or it is another one now, which then must be validated."""
        version = next((v for v in looked.versions if looked.matches(v) and v.status == 200), None)
        if version is None or not looked.policy.strategy.obeys_origin:
            return None
        try:
            if not rules.same_representation(version, head):
                await asyncio.wrap_future(self._store.invalidate(looked.key.id))
                return None
            return await self._freshen(looked, version, head, requested_at)
        except StoreError as error:
            log.debug("a HEAD of %s is not noted: %s", looked.key.url, error)
            return None

    async def _freshen(
        self, looked: Looked, version: Version, head: Response, requested_at: float
    ) -> Version:
        now = self._clock()
        freshened = rules.freshen(version, head, requested_at, now)
        freshened = replace(freshened, fields=rules.without_named(freshened.fields, looked.policy.targets))
        planned = rules.planned(freshened, looked.policy, looked.key, now)
        return await self._keeper.confirm(looked.key, planned)

    def record_posted(self, request: Request, head: Response, requested_at: float) -> Recording | None:
        """For an answer to POST that a door forwards itself and that a GET may have (RFC 9110 §9.3.3)."""
        try:
            return posted.record(
                self._store, self._config, self._keeper, self._clock, request, head, requested_at
            )
        except StoreError as error:
            log.debug("an answer to POST is not stored: %s", error)
            return None
