"""Collapsed forwarding: any number of requests for one missing resource are one request to the origin.

A flight is one such request under way. Its work runs in a task of its own, so no client's leaving ends it
for the others. Clients *enter* and *leave*; the outcome (an answer's head, a validation, a failure) is
known once, for all of them; the body is read along from the spool.

Where a server has several workers, they share a table of who flies for what (flight_table.py): a resource
that is another worker's is asked of that worker (peers.py).

A flight that nobody attends any more is dropped, unless it is kept (background work), or so much of a
storable body is there already that finishing it is cheaper than starting again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from buffy_proxy.core.model import Response, Version
from buffy_proxy.core.rules import OriginFailure
from buffy_proxy.errors import OriginError
from buffy_proxy.flight_table import FlightTable
from buffy_proxy.spool import Spool
from buffy_proxy.store import Outcome

SMALL_REST = 4 << 20
"""Bytes: a body of which no more than this is missing is finished for the store though all clients left."""


@dataclass(frozen=True, slots=True)
class Arriving:
    """The origin sent a new response; the body comes through `spool`.

    `draft` is the version it becomes (without name and digest) when `stored`; else it only describes it, and
    `not_stored_because` says why.
    """

    response: Response
    draft: Version
    size: int | None
    spool: Spool
    stored: bool
    not_stored_because: str = ""
    retry_after_s: float | None = None

    @property
    def landing(self) -> bool:
        """The body is here, and only its commit is missing."""
        return self.stored and (self.spool.complete or self.spool.received == self.size)


@dataclass(frozen=True, slots=True)
class Validated:
    """The origin confirmed the stored version (`fwd_status` 304, or 200 when only the size was compared)."""

    version: Version
    fwd_status: int


@dataclass(frozen=True, slots=True)
class Failed:
    """No usable answer: `status` is the origin's when it gave one (5xx), else None."""

    error: OriginError
    status: int | None = None
    retry_after_s: float | None = None

    @property
    def failure(self) -> OriginFailure:
        return OriginFailure(self.error.word, str(self.error), self.status)


FlightOutcome = Arriving | Validated | Failed


class Watch:
    """Whether a resource was changed by an unsafe request since this was made: by one of this process, which
    says so with `outdate`, or of another worker."""

    def __init__(self, resource_id: str, table: FlightTable | None) -> None:
        self._id = resource_id
        self._table = table
        self._mark = 0 if table is None else table.mark(resource_id)
        self._outdated = False

    def outdate(self) -> None:
        self._outdated = True

    @property
    def outdated(self) -> bool:
        return self._outdated or (self._table is not None and self._table.mark(self._id) != self._mark)


class Flight:
    """One request under way; see the module's docstring. `watch`: whether its resource was changed meanwhile.
    `result` tells at the end what the store made of it, None where nothing was stored."""

    def __init__(self, watch: Watch, *, kept: bool) -> None:
        self.outcome: asyncio.Future[FlightOutcome] = asyncio.get_running_loop().create_future()
        self.kept = kept
        self.dropped = False
        self.answered_early = False
        self.watch = watch
        self.result: Outcome | None = None
        self.task: asyncio.Task[None] | None = None
        self._clients = 0
        self._when_left: list[Callable[[], None]] = []

    def resolve(self, outcome: FlightOutcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def known(self) -> FlightOutcome | None:
        """The outcome, if it is known by now."""
        return self.outcome.result() if self.outcome.done() and not self.outcome.cancelled() else None

    async def ended(self, timeout_s: float | None = None) -> None:
        """Waits for the end of the work (not only the outcome); at most `timeout_s`."""
        if self.task is not None:
            await asyncio.wait([self.task], timeout=timeout_s)

    def enter(self) -> None:
        self._clients += 1

    def leave(self) -> None:
        self._clients -= 1
        if self.unattended and not self._worth_finishing() and self.task is not None:
            self.dropped = True
            self.task.cancel()
        while self._clients <= 0 and self._when_left:
            self._when_left.pop()()

    def when_left(self, act: Callable[[], None]) -> None:
        """Calls `act` as soon as nobody attends: who waits for the outcome has yet to read the body."""
        if self._clients <= 0:
            act()
        else:
            self._when_left.append(act)

    @property
    def unattended(self) -> bool:
        return self._clients <= 0 and not self.kept

    def _worth_finishing(self) -> bool:
        outcome = self.known()
        if not isinstance(outcome, Arriving):
            return outcome is not None
        spool = outcome.spool
        if spool.complete:
            return True
        if outcome.size is None:
            # A client with a copy of its own got a 304 out of this response, and never wanted its body.
            return spool.storing and self.answered_early
        return spool.storing and outcome.size - spool.received <= SMALL_REST


class Flights:
    """The flights of this process, by cache key id; `table` is that of all workers, None for a single one."""

    def __init__(self, table: FlightTable | None = None) -> None:
        self.table = table
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: Counter[str] = Counter()

    def join(
        self, key_id: str, work: Callable[[Flight], Awaitable[None]], *, kept: bool = False
    ) -> tuple[Flight, bool]:
        """The flight for this key, and whether it is new: then `work` runs for it and must resolve it."""
        if flight := self.get(key_id):
            flight.kept = flight.kept or kept
            return flight, False
        flight = self.solo(key_id, work, kept=kept)
        if flight.task is not None and not flight.task.done():
            self._flights[key_id] = flight
            flight.task.add_done_callback(lambda _: self._remove(key_id, flight))
        return flight, True

    def _remove(self, key_id: str, flight: Flight) -> None:
        if self._flights.get(key_id) is flight:
            del self._flights[key_id]
            self.give_back(key_id)

    def solo(self, key_id: str, work: Callable[[Flight], Awaitable[None]], *, kept: bool = False) -> Flight:
        """A flight that nobody joins."""
        flight = Flight(self.watch(key_id), kept=kept)
        flight.task = asyncio.ensure_future(_fly(flight, work))
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        return flight

    def watch(self, key_id: str) -> Watch:
        return Watch(key_id, self.table)

    def elsewhere(self, key_id: str) -> int | None:
        """The worker that flies for this key, if it is another one. Else this one has claimed it: `join` now,
        or `give_back`."""
        if self.table is None or self._is_ours(key_id):
            return None
        worker = self.table.claim(key_id)
        return None if worker == self.table.worker else worker

    def give_back(self, key_id: str) -> None:
        """This worker does not fly for this key, if that is so."""
        if self.table is not None and not self._is_ours(key_id):
            self.table.release(key_id)

    def hold(self, key_id: str, task: asyncio.Task[None]) -> None:
        """Until the end of that task, which commits something for this key, other workers ask this one."""
        if self.table is not None:
            self._held[key_id] += 1
            self.table.claim(key_id)
            task.add_done_callback(lambda _: self._let_go(key_id))

    def _let_go(self, key_id: str) -> None:
        self._held[key_id] -= 1
        if not self._held[key_id]:
            del self._held[key_id]
            self.give_back(key_id)

    def _is_ours(self, key_id: str) -> bool:
        return key_id in self._held or self.get(key_id) is not None

    def get(self, key_id: str) -> Flight | None:
        """The flight under way; one that was dropped or has just ended is of no use to newcomers."""
        flight = self._flights.get(key_id)
        if flight is None or flight.dropped or (flight.task is not None and flight.task.done()):
            return None
        return flight

    def __len__(self) -> int:
        return len(self._tasks)

    async def drain(self, timeout_s: float) -> None:
        """At shutdown: lets flights finish for a while, then drops them."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)


async def _fly(flight: Flight, work: Callable[[Flight], Awaitable[None]]) -> None:
    """Whatever happens to the work, those who wait for the outcome get one."""
    try:
        await work(flight)
    except asyncio.CancelledError:
        flight.resolve(Failed(OriginError("connection_terminated", "the request was dropped")))
        raise
    except Exception as error:
        flight.resolve(Failed(OriginError("proxy_internal_error", f"internal error: {error!r}")))
        raise
