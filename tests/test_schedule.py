"""What is due is renewed: when, how many at once, and what happens when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buffy_proxy import schedule as module
from buffy_proxy.cache import Cache
from buffy_proxy.core.model import Resource, Version
from buffy_proxy.errors import StoreUnusable
from buffy_proxy.schedule import BACKOFF_S, MAX_JITTER_S, Schedule
from buffy_proxy.store.memory import MemoryStore
from tests.support import answers
from tests.support.origin import Origin, Peer, Received
from tests.support.shell import Clock, body, cache, get, run

AGE = (
    '[[rule]]\nmatch = "**"\nstrategy = { strategy_name = "age", seconds = 3600 }\n[refresh]\njitter = 0.0\n'
)
CRON = AGE.replace('"age", seconds = 3600', '"cron", cron = "0 0 * * *", run_at_start = true')


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)


class Bench:
    """A cache, its store and a clock; `running` runs a schedule over them."""

    def __init__(self, made: Cache, store: MemoryStore, clock: Clock, directory: Path) -> None:
        self.cache, self.store, self.clock, self.directory = made, store, clock, directory

    @asynccontextmanager
    async def running(self, *, first_start: bool = False) -> AsyncIterator[None]:
        task = asyncio.ensure_future(
            Schedule(self.cache, self.directory, self.clock).run(first_start=first_start)
        )
        try:
            yield
        finally:
            assert not task.done(), task
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def fetch(self, *urls: str) -> None:
        for url in urls:
            await body(await self.cache.open(get(url)))
        while len(self.cache.flights):
            await asyncio.sleep(0.005)

    def newest(self, number: int = 0) -> Version:
        return self.store.versions(list(self.store.resources())[number].id)[0]

    async def until(self, condition) -> None:  # type: ignore[no-untyped-def]
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def bench(directory: Path, toml: str = AGE) -> AsyncIterator[Bench]:
    clock, store = Clock(), MemoryStore()
    async with cache(directory, toml, clock, store) as made:
        yield Bench(made, store, clock, directory)


def test_what_is_due_is_renewed_once(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"x"))

    async def test() -> None:
        async with bench(tmp_path) as b:
            await b.fetch(url)
            async with b.running():
                await asyncio.sleep(0.1)
                assert origin.hits(path) == 1
                b.clock.now += 3601
                await b.until(lambda: b.newest().validated_at == b.clock.now)
                await asyncio.sleep(0.1)
            assert origin.hits(path) == 2
            assert b.newest().refresh_at == b.clock.now + 3600

    run(test())


def test_a_failure_backs_off_and_a_success_forgets_it(origin: Origin, path: str, tmp_path: Path) -> None:
    thing = answers.Changing(b"x")
    url = origin.on(path, thing)

    async def test() -> None:
        async with bench(tmp_path) as b:
            await b.fetch(url)
            async with b.running():
                b.clock.now += 3601
                thing.status = 503
                for pause in (BACKOFF_S, 2 * BACKOFF_S, 4 * BACKOFF_S):
                    await b.until(lambda pause=pause: b.newest().refresh_at == b.clock.now + pause)
                    b.clock.now += pause - 1
                    seen = origin.hits(path)
                    await asyncio.sleep(0.08)
                    assert origin.hits(path) == seen, "not before its time"
                    thing.extra = {"Retry-After": "77"} if pause == 4 * BACKOFF_S else {}
                    b.clock.now += 1
                await b.until(lambda: b.newest().refresh_at == b.clock.now + 77)
                b.clock.now += 77
                thing.status, thing.extra = 200, {}
                await b.until(lambda: b.newest().refresh_at == b.clock.now + 3600)
                thing.status = 500
                b.clock.now += 3600
                await b.until(lambda: b.newest().refresh_at == b.clock.now + BACKOFF_S)

    run(test())


@pytest.mark.parametrize(("limits", "most"), [("per_host = 1", 1), ("per_host = 9", 4), ("downloads = 2", 1)])
def test_no_origin_is_hurried(origin: Origin, path: str, tmp_path: Path, limits: str, most: int) -> None:
    now, peak = [0], [0]

    async def slow(request: Received, peer: Peer) -> None:
        now[0] += 1
        peak[0] = max(peak[0], now[0])
        await asyncio.sleep(0.03)
        now[0] -= 1
        await peer.send(answers.head(200, {"Content-Length": "1"}) + b"x")

    urls = [origin.on(f"{path}/{number}", slow) for number in range(8)]

    async def test() -> None:
        async with bench(tmp_path, AGE + limits) as b:
            await b.fetch(*urls)
            async with b.running():
                b.clock.now += 3601
                ids = [resource.id for resource in b.store.resources()]
                await b.until(lambda: all(b.store.versions(i)[0].validated_at == b.clock.now for i in ids))
            assert peak[0] == most

    run(test())


def test_at_most_four_downloads_over_all_hosts(tmp_path: Path, path: str) -> None:
    hosts = [Origin(host=f"127.0.0.{number}") for number in range(2, 9)]
    now, peak = [0], [0]

    async def slow(request: Received, peer: Peer) -> None:
        now[0] += 1
        peak[0] = max(peak[0], now[0])
        await asyncio.sleep(0.05)
        now[0] -= 1
        await peer.send(answers.head(200, {"Content-Length": "1"}) + b"x")

    async def test() -> None:
        async with bench(tmp_path) as b:
            await b.fetch(*(host.on(path, slow) for host in hosts))
            async with b.running():
                b.clock.now += 3601
                await b.until(lambda: all(host.hits(path) == 2 for host in hosts))
            assert peak[0] == 4

    run(test())
    for host in hosts:
        host.shut_down()


def test_jitter_spreads_what_a_strategy_planned_and_nothing_else(
    origin: Origin, path: str, tmp_path: Path
) -> None:
    urls = [origin.on(f"{path}/{number}", answers.fixed(b"x")) for number in range(20)]

    async def test() -> None:
        async with bench(tmp_path, AGE.replace("jitter = 0.0", "jitter = 0.1")) as b:
            await b.fetch(*urls)
            plan = Schedule(b.cache, tmp_path, b.clock)
            again = Schedule(b.cache, tmp_path, b.clock)

            def delays(made: Schedule) -> list[float]:
                due = b.store.due(float("inf"), 100)
                records = [made._records(each) for each in due]
                pairs = [(r, v) for r, v in records if isinstance(r, Resource) and isinstance(v, Version)]
                return [made._jitter(d, r, v) for d, (r, v) in zip(due, pairs, strict=True)]

            spread = delays(plan)
            assert spread == delays(again), "it depends on the resource alone"
            assert len(set(spread)) > 10 and all(0 <= delay <= 360 <= 2 * MAX_JITTER_S for delay in spread)
            b.clock.now += 1000
            for due in b.store.due(float("inf"), 100):
                b.store.schedule(due.resource_id, due.name, b.clock.now)  # as `buffy refresh` does
            assert set(delays(plan)) == {0.0}

    run(test())


@pytest.mark.parametrize("first_start", [True, False])
def test_run_at_start(origin: Origin, path: str, tmp_path: Path, first_start: bool) -> None:
    url = origin.on(path, answers.fixed(b"x"))

    async def test() -> None:
        async with bench(tmp_path, CRON) as b:
            await b.fetch(url)
            b.clock.now += 1
            async with b.running(first_start=first_start):
                if first_start:
                    await b.until(lambda: origin.hits(path) == 2)
                await asyncio.sleep(0.1)
            assert origin.hits(path) == 1 + first_start

    run(test())


def test_a_replaced_version_is_not_renewed_again(origin: Origin, path: str, tmp_path: Path) -> None:
    """A version that another one replaced may still be planned (a pin kept it, a process died)."""
    thing = answers.Changing(b"one")
    url = origin.on(path, thing)

    async def test() -> None:
        async with bench(tmp_path) as b:
            await b.fetch(url)
            old = b.newest()
            thing.body = b"two"
            b.clock.now += 3601
            async with b.running():
                await b.until(lambda: b.newest().name != old.name)
                b.store.schedule(old.resource_id, old.name, b.clock.now)
                await b.until(lambda: origin.hits(path) >= 3)
                await asyncio.sleep(0.1)
            assert origin.hits(path) == 3
            assert [v.refresh_at is None for v in b.store.versions(old.resource_id)] == [False, True]

    run(test())


class Sick(MemoryStore):
    """A store that cannot be read, or takes no plans, while it is sick."""

    unreadable = unwritable = False

    def due(self, now: float, limit: int):  # type: ignore[no-untyped-def]
        if self.unreadable:
            raise StoreUnusable("cannot be read for a while")
        return super().due(now, limit)

    def schedule(self, resource_id: str, name: str, refresh_at: float | None):  # type: ignore[no-untyped-def]
        if self.unwritable:
            return self._do(lambda: (_ for _ in ()).throw(StoreUnusable("no room")))
        return super().schedule(resource_id, name, refresh_at)


def test_the_schedule_outlives_a_sick_store(origin: Origin, path: str, tmp_path: Path) -> None:
    thing = answers.Changing(b"x")
    url = origin.on(path, thing)

    async def test() -> None:
        clock, store = Clock(), Sick()
        async with cache(tmp_path, AGE, clock, store) as made:
            b = Bench(made, store, clock, tmp_path)
            await b.fetch(url)
            store.unreadable = True
            async with b.running():
                b.clock.now += 3601
                await asyncio.sleep(0.1)
                store.unreadable, store.unwritable, thing.status = False, True, 503
                await b.until(lambda: origin.hits(path) == 2)
                await asyncio.sleep(0.15)
                assert origin.hits(path) == 2, "a plan that cannot be noted is kept all the same"
                b.clock.now += BACKOFF_S
                await b.until(lambda: origin.hits(path) == 3)

    run(test())


def test_a_bug_in_one_renewal_harms_no_other(origin: Origin, path: str, tmp_path: Path) -> None:
    good = origin.on(path, answers.fixed(b"x"))
    bad = origin.on(path + "/bad", answers.fixed(b"x"))

    async def test() -> None:
        async with bench(tmp_path) as b:
            await b.fetch(bad, good)
            broken = next(r for r in b.store.resources() if r.key.url == bad)
            b.store.set_policy(broken.key, None, {"wanted": "no request at all"}, now=0)
            async with b.running():
                b.clock.now += 3601
                await b.until(lambda: origin.hits(path) == 2)
                await b.until(lambda: (b.store.versions(broken.id)[0].refresh_at or 0) > b.clock.now)
            assert origin.hits(path + "/bad") == 1

    run(test())


def test_one_process_at_a_time(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"x"))

    async def test() -> None:
        async with bench(tmp_path) as b:
            await b.fetch(url)
            b.clock.now += 3601
            with (tmp_path / "schedule.lock").open("w") as other:
                fcntl.flock(other, fcntl.LOCK_EX)
                async with b.running():
                    await asyncio.sleep(0.1)
                    assert origin.hits(path) == 1
                    fcntl.flock(other, fcntl.LOCK_UN)
                    await b.until(lambda: origin.hits(path) == 2)

    run(test())
