"""Runs the cron jobs of plugins, in one process of a data directory.

When each ran last stands in the store, so a restart neither forgets a time nor repeats one: a time that was
missed runs once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buffy_proxy.core.strategies import next_cron_time
from buffy_proxy.duty import on_duty
from buffy_proxy.errors import StoreError
from buffy_proxy.plugins.jobs import Job
from buffy_proxy.plugins.process import PluginProcess

log = logging.getLogger("buffy.plugins")

KIND: Final = "plugin-job"
POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Owned:
    plugin: str
    job: Job

    @property
    def key(self) -> str:
        return f"{self.plugin}/{self.job.name}"


class JobRunner:
    """`run` until cancelled. `clock` gives POSIX s."""

    def __init__(
        self, process: PluginProcess, data_dir: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._process = process
        self._lock_file = data_dir / "plugin-jobs.lock"
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._jobs = self._registered()

    def _registered(self) -> list[_Owned]:
        plugins, found = self._process.plugins, []
        for one in plugins.each("register_jobs"):
            for job in plugins.ask("register_jobs", one) or ():
                if isinstance(job, Job):
                    found.append(_Owned(one.plugin, job))
                else:
                    plugins.failures.note(one.plugin, "register_jobs", f"{job!r:.200} is no Job")
        return found

    async def run(self) -> None:
        if not self._jobs:
            return
        async with on_duty(self._lock_file):
            while True:
                try:
                    self._start_due()
                except StoreError as error:
                    log.warning("cannot look which jobs of plugins are due: %s", error)
                await asyncio.sleep(POLL_S)

    def _start_due(self) -> None:
        now = self._clock()
        for owned in self._jobs:
            if owned.key in self._running:
                continue
            last = self._last(owned)
            if last is None:
                self._note(owned, now)  # the first time it is seen
            elif next_cron_time(owned.job.cron, last) <= now:
                self._note(owned, now)
                task = asyncio.ensure_future(self._run(owned))
                self._running[owned.key] = task
                task.add_done_callback(lambda _, key=owned.key: self._running.pop(key, None))  # type: ignore[misc]

    def _last(self, owned: _Owned) -> float | None:
        """When it ran last; a changed cron expression begins anew."""
        stored = self._process.store.document(KIND, owned.key)
        known = json.loads(stored) if stored else {}
        return float(known["at"]) if known.get("cron") == owned.job.cron else None

    def _note(self, owned: _Owned, now: float) -> None:
        data = json.dumps({"at": now, "cron": owned.job.cron}).encode()
        self._process.store.put_documents([(KIND, owned.key, data)]).result()

    async def _run(self, owned: _Owned) -> None:
        context = self._process.context(owned.plugin)
        try:
            await asyncio.to_thread(owned.job.run, context)
        except (Exception, SystemExit) as error:
            self._process.plugins.failures.note(owned.plugin, f"job {owned.job.name}", error)
