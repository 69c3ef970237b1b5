"""Collapsed forwarding: who joins, what ends a flight, and that everybody gets an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from buffy_proxy.errors import OriginError
from buffy_proxy.flights import SMALL_REST, Arriving, Failed, Flight, Flights, Validated
from buffy_proxy.spool import Spool
from buffy_proxy.store.memory import MemoryStore
from tests.core import make


class Work:
    """Work for flights: it resolves with `outcome`, then goes on until `finish` is set."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome, self.finish = outcome, asyncio.Event()
        self.runs = self.cancelled = 0

    async def __call__(self, flight: Flight) -> None:
        self.runs += 1
        if self.outcome is not None:
            flight.resolve(self.outcome)
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def arriving(size: int | None = 10, stored: bool = True) -> Arriving:
    spool = Spool(MemoryStore().new_body() if stored else None)
    return Arriving(make.response(200), make.version(), size, spool, stored)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


def test_all_who_want_one_key_share_one_flight() -> None:
    async def test() -> None:
        flights, work = Flights(), Work(Validated(make.version(), 304))
        first, new = flights.join("a", work)
        again, joined = flights.join("a", work)
        other, other_new = flights.join("b", work)
        assert new and not joined and other_new
        assert again is first and other is not first and len(flights) == 2
        await first.outcome
        assert work.runs == 2
        work.finish.set()
        await first.ended()
        await other.ended()
        await asyncio.sleep(0)
        assert flights.get("a") is None and len(flights) == 0

    run(test())


def test_nobody_joins_a_solo_flight() -> None:
    async def test() -> None:
        flights, work = Flights(), Work()
        solo = flights.solo("a", work)
        joined, new = flights.join("a", work)
        assert new and joined is not solo
        work.finish.set()
        await asyncio.gather(solo.ended(), joined.ended())

    run(test())


@pytest.mark.parametrize(
    ("outcome", "kept", "dropped"),
    [
        (lambda: None, False, True),
        (lambda: None, True, False),
        (lambda: Validated(make.version(), 304), False, False),
        (lambda: Failed(OriginError("dns_error", "no such host")), False, False),
        (lambda: arriving(SMALL_REST), False, False),
        (lambda: arriving(SMALL_REST + 1), False, True),
        (lambda: arriving(None), False, True),
        (lambda: arriving(10, stored=False), False, True),
        (lambda: arriving(SMALL_REST + 1), True, False),
    ],
    ids=["waiting", "kept", "304", "failed", "small rest", "large", "endless", "not stored", "kept large"],
)
def test_what_nobody_attends_is_dropped_unless_it_is_worth_finishing(
    outcome: Any, kept: bool, dropped: bool
) -> None:
    async def test() -> None:
        flights, work = Flights(), Work(outcome())
        flight, _ = flights.join("a", work, kept=kept)
        flight.enter()
        flight.enter()
        await asyncio.sleep(0)
        flight.leave()
        await asyncio.sleep(0.01)
        assert work.cancelled == 0, "somebody is still there"
        flight.leave()
        await flight.ended(0.05)
        assert bool(work.cancelled) is dropped is flight.dropped
        work.finish.set()

    run(test())


def test_a_whole_body_is_committed_though_everybody_left() -> None:
    async def test() -> None:
        flights, outcome = Flights(), arriving(None)
        work = Work(outcome)
        flight, _ = flights.join("a", work)
        flight.enter()
        await outcome.spool.finish()
        await asyncio.sleep(0)
        flight.leave()
        await asyncio.sleep(0.01)
        assert work.cancelled == 0
        work.finish.set()

    run(test())


def test_background_work_that_joins_keeps_a_flight() -> None:
    async def test() -> None:
        flights, work = Flights(), Work()
        flight, _ = flights.join("a", work)
        flight.enter()
        flights.join("a", work, kept=True)
        flight.leave()
        await flight.ended(0.02)
        assert work.cancelled == 0
        work.finish.set()

    run(test())


def test_a_dropped_flight_takes_no_passengers() -> None:
    """Who comes in the moment in which it ends starts anew, and that flight stays known."""

    async def test() -> None:
        flights, work = Flights(), Work()
        old, _ = flights.join("a", work)
        old.enter()
        await asyncio.sleep(0)
        old.leave()
        new, leads = flights.join("a", work)
        assert leads and new is not old and flights.get("a") is new
        await old.ended()
        await asyncio.sleep(0.01)
        assert flights.get("a") is new
        assert flights.join("a", work) == (new, False)
        work.finish.set()
        await new.ended()

    run(test())


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x")])
def test_work_that_raises_gives_an_outcome(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async def work(flight: Flight) -> None:
            raise error

        flights = Flights()
        flight, _ = flights.join("a", work)
        outcome = await flight.outcome
        assert isinstance(outcome, Failed) and outcome.error.word == "proxy_internal_error"
        await flight.ended()
        await asyncio.sleep(0)
        assert flights.get("a") is None
        assert flight.task is not None and flight.task.exception() is error

    run(test())


def test_dropped_work_gives_an_outcome_and_the_first_outcome_stands() -> None:
    async def test() -> None:
        flights, work = Flights(), Work()
        flight = flights.solo("a", work)
        assert flight.known() is None
        await flights.drain(0.01)
        outcome = flight.known()
        assert isinstance(outcome, Failed) and outcome.error.word == "connection_terminated"
        flight.resolve(Validated(make.version(), 304))
        assert flight.known() is outcome
        assert len(flights) == 0

    run(test())


def test_draining_lets_work_finish() -> None:
    async def test() -> None:
        flights, work = Flights(), Work(Validated(make.version(), 304))
        flights.solo("a", work)
        asyncio.get_running_loop().call_later(0.02, work.finish.set)
        await flights.drain(5)
        assert work.cancelled == 0 and len(flights) == 0

    run(test())


def test_what_waits_until_all_have_left() -> None:
    """A body must not be closed while somebody who waited for the outcome is still to read it."""

    async def test() -> None:
        flights, work, left = Flights(), Work(), []
        flight = flights.solo("a", work)
        flight.when_left(lambda: left.append("nobody was there"))
        assert left == ["nobody was there"]
        flight.enter()
        flight.enter()
        flight.when_left(lambda: left.append("now"))
        flight.leave()
        assert left == ["nobody was there"]
        flight.leave()
        assert left == ["nobody was there", "now"]

    run(test())


def test_nobody_joins_what_has_just_ended() -> None:
    async def test() -> None:
        flights, work = Flights(), Work(Validated(make.version(), 304))
        work.finish.set()
        old, _ = flights.join("a", work)
        while old.task is not None and not old.task.done():
            await asyncio.sleep(0)
            if old.task.done():
                new, leads = flights.join("a", work)
                assert leads and new is not old

    run(test())
