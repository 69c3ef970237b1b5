"""Background renewal: what is due is renewed, a few at a time, without hurrying any origin.

What is due when stands in the store's index ordered by time, so a restart forgets nothing and a missed time
runs once. One process of a data directory holds the lock file and does the work; when it dies, the kernel
frees the lock and another takes over.

A renewal that failed is tried again after a pause that doubles from BACKOFF_S to BACKOFF_MAX_S, or after what
Retry-After said. Renewals are delayed by a share of their interval that depends on the resource alone, so
that a thousand resources stored in one minute do not all come due in one minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from buffy_proxy.cache import Cache
from buffy_proxy.core.fields import origin_of
from buffy_proxy.core.model import Request, Resource, Version
from buffy_proxy.core.strategies import Cron, Strategy
from buffy_proxy.duty import on_duty
from buffy_proxy.errors import OriginError, StoreError
from buffy_proxy.flights import Failed
from buffy_proxy.lookup import policy_of
from buffy_proxy.slots import Slots
from buffy_proxy.store import Due

log = logging.getLogger("buffy.schedule")

POLL_S = 1.0
"""Other processes may plan renewals at any time (`buffy refresh`, the API), so the index is polled."""
LOOK_AHEAD = 1000
BACKOFF_S = 30.0
BACKOFF_MAX_S = 6 * 3600.0
MAX_JITTER_S = 300.0
TIDY_S = 600.0


class Schedule:
    """`run` until cancelled."""

    def __init__(
        self,
        cache: Cache,
        data_dir: Path,
        clock: Callable[[], float] = time.time,
        slots: Slots | None = None,
    ) -> None:
        self._cache = cache
        self._store = cache.store
        self._limits = cache.config.refresh
        self._slots = slots or Slots(self._limits)
        self._lock_file = data_dir / "schedule.lock"
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tidied_at = clock()
        self._failures: Counter[str] = Counter()
        self._resting: dict[str, tuple[float, float]] = {}

    async def run(self, *, first_start: bool) -> None:
        """`first_start`: the server starts; it is not one of its processes coming back."""
        async with on_duty(self._lock_file):
            try:
                if first_start:
                    await self._unless_broken(self._run_at_start)
                while True:
                    await self._unless_broken(self._start_due)
                    self._tidy()
                    await asyncio.sleep(POLL_S)
            finally:
                for task in self._running.values():
                    task.cancel()

    def _tidy(self) -> None:
        """What nothing names any more goes after commits; an idle server looks for it now and then."""
        if self._clock() - self._tidied_at > TIDY_S:
            self._tidied_at = self._clock()
            self._store.gc(self._tidied_at)

    async def _unless_broken(self, step: Callable[[], Awaitable[None]]) -> None:
        """A store that cannot be read now may be readable later; the schedule must outlive that."""
        try:
            await step()
        except StoreError as error:
            log.warning("cannot look for what is due: %s", error)

    async def _run_at_start(self) -> None:
        """Cron strategies with `run_at_start` run once when the server starts."""
        now = self._clock()
        for due in self._store.due(float("inf"), 100_000):
            resource, version = self._records(due)
            if resource is None or version is None or due.at <= now:
                continue
            strategy = self._strategy(resource, version)
            if isinstance(strategy, Cron) and strategy.run_at_start:
                self._store.schedule(due.resource_id, due.name, now)
            await asyncio.sleep(0)

    # -- choosing -----------------------------------------------------------------------------------------
    async def _start_due(self) -> None:
        now = self._clock()
        for due in self._store.due(now, LOOK_AHEAD):
            if self._slots.all_taken:
                return
            try:
                self._consider(due, now)
            except Exception:
                log.exception("cannot renew %s", due.resource_id)
                self._plan(due, self._clock() + BACKOFF_MAX_S)

    def _consider(self, due: Due, now: float) -> None:
        if due.resource_id in self._running or self._rests(due, now):
            return
        resource, version = self._records(due)
        if resource is None or version is None:
            self._store.schedule(due.resource_id, due.name, None)
            return
        host = origin_of(resource.key.url)[1]
        if now < due.at + self._jitter(due, resource, version) or not self._slots.take(host):
            return
        task = asyncio.ensure_future(self._renew(due, resource, version))
        self._running[due.resource_id] = task
        task.add_done_callback(lambda _: self._done(due.resource_id, host))

    def _done(self, resource_id: str, host: str) -> None:
        del self._running[resource_id]
        self._slots.release(host)

    def _records(self, due: Due) -> tuple[Resource | None, Version | None]:
        return self._store.resource(due.resource_id), self._store.version(due.resource_id, due.name)

    def _strategy(self, resource: Resource, version: Version) -> Strategy:
        return policy_of(self._cache.config, _request(resource, version), resource).strategy

    def _jitter(self, due: Due, resource: Resource, version: Version) -> float:
        """Only for what a strategy planned: `buffy refresh` and Retry-After mean the time they say."""
        if (
            self._strategy(resource, version).plan(version, self._clock(), resource.key.url).refresh_at
            != due.at
        ):
            return 0.0
        interval = max(0.0, due.at - version.validated_at)
        share = int.from_bytes(due.resource_id.encode()[-4:], "big") % 1000 / 1000
        return min(MAX_JITTER_S, interval * self._limits.jitter) * share

    # -- renewing -----------------------------------------------------------------------------------------
    async def _renew(self, due: Due, resource: Resource, version: Version) -> None:
        try:
            failed = await self._cache.renew(resource, version)
        except Exception as error:
            log.exception("cannot renew %s", resource.key.url)
            failed = Failed(OriginError("proxy_internal_error", f"internal error: {error!r}"))
        if failed is None:
            self._failures.pop(due.resource_id, None)
            self._settle(due, version)
            return
        self._failures[due.resource_id] += 1
        pause = self._pause(due, failed)
        log.info("renewing %s failed (%s); again in %.0f s", resource.key.url, failed.error, pause)
        self._plan(due, self._clock() + pause)

    def _settle(self, due: Due, version: Version) -> None:
        """A renewed version has its next time already. Where the old record is still due (another version
        took its place, the answer could not be stored), it must not be renewed again and again."""
        after = self._store.version(due.resource_id, due.name)
        if after is None or after.refresh_at != version.refresh_at:
            return
        newest = next(iter(self._store.versions(due.resource_id)), None)
        replaced = newest is not None and newest.name != due.name
        self._plan(due, None if replaced else self._clock() + BACKOFF_MAX_S)

    def _pause(self, due: Due, failed: Failed) -> float:
        if failed.retry_after_s is not None:
            return min(max(failed.retry_after_s, 1.0), 24 * 3600.0)
        return float(min(BACKOFF_S * 2 ** min(self._failures[due.resource_id] - 1, 20), BACKOFF_MAX_S))

    def _plan(self, due: Due, at: float | None) -> None:
        """The next try is planned in the store. Should that not be writable, this process still waits."""
        now = self._clock()
        if len(self._resting) > LOOK_AHEAD:
            self._resting = {each: rest for each, rest in self._resting.items() if rest[1] > now}
        self._resting[due.resource_id] = (due.at, at or now + BACKOFF_MAX_S)
        self._store.schedule(due.resource_id, due.name, at)

    def _rests(self, due: Due, now: float) -> bool:
        """Whether this very renewal was put off; one that somebody else planned since then is another."""
        planned, until = self._resting.get(due.resource_id, (0.0, 0.0))
        if planned == due.at and now < until:
            return True
        self._resting.pop(due.resource_id, None)
        return False


def _request(resource: Resource, version: Version) -> Request:
    return Request(resource.key.method, resource.key.url, version.request_fields, group=resource.key.group)
