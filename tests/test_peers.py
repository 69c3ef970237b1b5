"""Workers ask each other: several caches over one store and one table, in one event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from buffy_proxy import peers
from buffy_proxy.answer import Answer
from buffy_proxy.cache import Cache
from buffy_proxy.core.model import Request
from buffy_proxy.errors import BodyMissing, OriginError
from buffy_proxy.flight_table import FlightTable, make_table
from buffy_proxy.flights import Flights
from buffy_proxy.lookup import look_up
from buffy_proxy.peers import Nothing, Peers
from buffy_proxy.store import open_store
from buffy_proxy.store.index import LmdbStore
from tests.support import answers
from tests.support.bodies import piece
from tests.support.origin import Origin, Peer, Received
from tests.support.shell import Clock, body, config, get, landed, origins_client, run, status

Follow = Callable[[Request], Awaitable[Answer | Nothing]]


@asynccontextmanager
async def team(
    directory: Path, count: int = 2, wrap: Callable[[LmdbStore], Any] = lambda store: store
) -> AsyncIterator[list[Cache]]:
    """Caches as in `count` workers of one server; `wrap` puts something around their store."""
    fd, clock, made = make_table(), Clock(), []
    store = open_store(directory, max_size=1 << 30, map_size=1 << 26)
    shared = wrap(store)
    async with AsyncExitStack() as stack:
        for number in range(1, count + 1):
            peer = Peers(directory, os.getpid(), FlightTable(fd, number))
            origins = await stack.enter_async_context(origins_client())
            made.append(Cache(shared, config(directory), origins, clock, peer))
            await peer.listen(made[-1])
            stack.callback(peer.close)
        yield made
        for each in made:
            await each.flights.drain(0.0)
    store.close()
    os.close(fd)


def test_one_request_for_all_workers(origin: Origin, path: str, tmp_path: Path) -> None:
    go, data = threading.Event(), piece(1, 0, 3 << 20)
    url = origin.on(path, answers.sized([data[:1000], go, data[1000:]], answers.FRESH))

    async def test() -> None:
        async with team(tmp_path, 3) as made:
            opened = await asyncio.gather(*(made[n % 3].open(get(url)) for n in range(21)))
            assert sorted(status(a).collapsed for a in opened) == [False] + [True] * 20
            assert [a.size for a in opened] == [len(data)] * 21
            assert {a.source for a in opened} == {"cache", "origin"}
            go.set()
            assert all([await body(a) == data for a in opened])
            assert all([status(await each.open(get(url))).hit for each in made])

    run(test())
    assert origin.hits(path) == 1


def test_what_comes_by_way_of_another_worker_is_not_passed_on_again(
    origin: Origin, path: str, tmp_path: Path
) -> None:
    """A flight that is claimed and not there (it has just ended) sends nobody in circles."""
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))

    async def test() -> None:
        async with team(tmp_path, 3) as (one, two, three):
            key = (await landed(one, get(url))).resource_id
            assert key is not None
            await asyncio.wrap_future(one.store.invalidate(key))
            assert two.flights.elsewhere(key) is None  # claimed, and then nothing comes of it
            assert await one.follow(get(url)) is Nothing.OVER
            answer = await three.open(get(url))
            assert status(answer).fwd == "stale" and await body(answer) == b"x"

    run(test())
    assert origin.hits(path) == 2


def test_without_room_in_the_table_each_worker_fetches(
    origin: Origin, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlightTable, "claim", lambda table, key: None)
    url = origin.on(path, answers.sized([0.2, b"x"], answers.FRESH))

    async def test() -> None:
        async with team(tmp_path, 2) as (one, two):
            opened = await asyncio.gather(*(each.open(get(url)) for each in (one, two, one, two)))
            assert [await body(each) for each in opened] == [b"x"] * 4

    run(test())
    assert origin.hits(path) == 2


def test_a_client_that_leaves_is_missed_by_the_other_worker(
    origin: Origin, path: str, tmp_path: Path
) -> None:
    url = origin.on(path, answers.chunked([b"x" * 1000, *([0.02, b"x" * 1000] * 2000)], answers.FRESH))

    async def test() -> None:
        async with team(tmp_path) as (one, two):
            opened = [await each.open(get(url)) for each in (one, two)]
            opened[0].close()
            await asyncio.sleep(0.1)
            assert len(one.flights) == 1, "it goes on for the client of the other worker"
            opened[1].close()
            async with asyncio.timeout(10):
                while len(one.flights):
                    await asyncio.sleep(0.01)

    run(test())
    assert origin.seen(path)[0].done.wait(10)


def test_a_client_that_leaves_before_the_head_is_missed_too(
    origin: Origin, path: str, tmp_path: Path
) -> None:
    url = origin.on(path, [30.0])

    async def test() -> None:
        async with team(tmp_path) as made:
            asking = []
            for each in made:
                asking.append(asyncio.ensure_future(each.open(get(url))))
                await asyncio.to_thread(origin.wait, path)
            await asyncio.sleep(0.1)
            for task in asking:
                task.cancel()
            async with asyncio.timeout(1.5):  # sooner than the origin's first byte is given up
                while len(made[0].flights):
                    await asyncio.sleep(0.01)

    run(test())
    assert origin.hits(path) == 1


def test_background_renewals_of_all_workers_are_one(origin: Origin, path: str, tmp_path: Path) -> None:
    page = answers.Changing(b"page", {"Cache-Control": "max-age=10, stale-while-revalidate=60"})

    async def slowly(request: Received, peer: Peer) -> None:
        await peer.run([0.2 if request.get("if-none-match") else 0])
        await page(request, peer)

    url = origin.on(path, slowly)

    async def test() -> None:
        async with team(tmp_path, 3) as made:
            await landed(made[0], get(url))
            made[0]._clock.now += 20  # type: ignore[attr-defined]
            for each in made:
                assert status(await each.open(get(url))).hit
            while any(len(each.flights) for each in made):
                await asyncio.sleep(0.01)

    run(test())
    assert origin.hits(path) == 2


def test_a_renewal_waits_for_the_worker_that_asks_already(origin: Origin, path: str, tmp_path: Path) -> None:
    page, gate = answers.Changing(b"page", answers.STALE), threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        if request.get("if-none-match"):
            await peer.wait(gate)
        await page(request, peer)

    url = origin.on(path, script)

    async def test() -> None:
        async with team(tmp_path) as (one, two):
            key = (await landed(one, get(url))).resource_id
            assert key is not None
            resource, (version,) = one.store.resource(key), one.store.versions(key)
            assert resource is not None
            one._clock.now += 5  # type: ignore[attr-defined]
            asked = asyncio.ensure_future(two.open(get(url)))
            await asyncio.to_thread(origin.wait, path, 2)
            renewal = asyncio.ensure_future(one.renew(resource, version))
            await asyncio.sleep(0.2)
            assert not renewal.done()
            gate.set()
            assert await renewal is None
            await body(await asked)

    run(test())
    assert origin.hits(path) == 2


# -- the conversation itself --------------------------------------------------------------------------------


class Flying:
    """Answers with `follow`; whatever it is asked to wait for is `landing`."""

    def __init__(self, follow: Follow, landing: bool = False) -> None:
        self._follow, self.landing = follow, landing
        self.keys: list[str] = []

    async def follow(self, request: Request) -> Answer | Nothing:
        return await self._follow(request)

    async def land(self, key_id: str) -> bool:
        self.keys.append(key_id)
        return self.landing


@asynccontextmanager
async def two_peers(directory: Path, follow: Follow) -> AsyncIterator[Peers]:
    """The asking one; the other one, worker 2, answers with `follow`."""
    fd = make_table()
    asking, flying = (Peers(directory, os.getpid(), FlightTable(fd, number)) for number in (1, 2))
    await flying.listen(Flying(follow))
    try:
        yield asking
    finally:
        flying.close()
        os.close(fd)


REQUEST = Request("GET", "http://a.example/x", ((b"Accept", b"\xff"),), b"\0body", "group", True)


def test_request_and_answer_arrive_as_they_were(tmp_path: Path) -> None:
    async def test() -> None:
        async def follow(request: Request) -> Answer:
            assert request == REQUEST
            fields = ((b"X", b"\xe9"), (b"Cache-Status", b"buffy; fwd=miss"))
            answer = Answer(
                203, b"Why", fields, cache_status=b"buffy; fwd=miss", content=b"all", source="buffy"
            )
            answer.resource_id, answer.origin_error = "id", "dns_error"
            return answer

        async with two_peers(tmp_path, follow) as asking:
            got = await asking.follow(2, REQUEST)
            assert isinstance(got, Answer)
            assert (got.status, got.reason, got.fields[0]) == (203, b"Why", (b"X", b"\xe9"))
            assert (got.content, got.stream, got.size, got.source) == (b"all", None, 3, "buffy")
            assert (got.decision, got.resource_id, got.origin_error) == ("miss", "id", "dns_error")
            got.close()

    run(test())


@pytest.mark.parametrize("nothing", [Nothing.OVER, Nothing.UNFIT])
def test_no_answer_is_an_answer(tmp_path: Path, nothing: Nothing) -> None:
    async def test() -> None:
        async def follow(request: Request) -> Nothing:
            return nothing

        async with two_peers(tmp_path, follow) as asking:
            assert await asking.follow(2, REQUEST) is nothing

    run(test())


@pytest.mark.parametrize(
    "error", [OriginError("http_response_incomplete", "half"), BodyMissing("gone"), RuntimeError("bug")]
)
def test_a_stream_that_ends_early_ends_early_for_both(tmp_path: Path, error: Exception) -> None:
    closed = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begun"
        raise error

    async def test() -> None:
        async def follow(request: Request) -> Answer:
            close = lambda: closed.append(1)  # noqa: E731
            return Answer(200, b"OK", (), cache_status=b"buffy; fwd=miss", stream=chunks(), on_close=close)

        async with two_peers(tmp_path, follow) as asking:
            got = await asking.follow(2, REQUEST)
            assert isinstance(got, Answer) and got.stream is not None
            assert await anext(got.stream) == b"begun"
            with pytest.raises(OriginError):
                await anext(got.stream)
            got.close()
            while not closed:
                await asyncio.sleep(0.01)

    run(test())
    assert closed == [1]


def test_no_more_comes_than_is_taken(tmp_path: Path) -> None:
    made, closed = [], asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            made.append(1)
            yield b"x" * 65536

    async def test() -> None:
        async def follow(request: Request) -> Answer:
            status = b"buffy; fwd=miss"
            return Answer(200, b"OK", (), cache_status=status, stream=chunks(), on_close=closed.set)

        async with two_peers(tmp_path, follow) as asking:
            got = await asking.follow(2, REQUEST)
            assert isinstance(got, Answer) and got.stream is not None
            await asyncio.sleep(0.3)
            assert len(made) < 64, "4 MiB are more than all buffers in between"
            for _ in range(200):
                assert len(await anext(got.stream)) == 65536
            assert not closed.is_set()
            got.close()
            await closed.wait()

    run(test())


def test_a_worker_that_does_not_run_is_dead_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async def follow(request: Request) -> Nothing:
            raise AssertionError

        async with two_peers(tmp_path, follow) as asking:
            assert await asking.follow(3, REQUEST) is Nothing.DEAD

    run(test())


def test_who_has_no_descriptor_left_takes_no_claims_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(directory: Path, name: str) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    async def test() -> None:
        async def follow(request: Request) -> Nothing:
            raise AssertionError

        async with two_peers(tmp_path, follow) as asking:
            monkeypatch.setattr(peers, "short_path", none_left)
            assert await asking.follow(2, REQUEST) is Nothing.UNFIT
            assert await asking.land(2, "a") is Nothing.UNFIT

    run(test())


def test_a_worker_that_cannot_answer_counts_as_dead(tmp_path: Path) -> None:
    async def test() -> None:
        async def follow(request: Request) -> Nothing:
            raise RuntimeError("a bug")

        async with two_peers(tmp_path, follow) as asking:
            assert await asking.follow(2, REQUEST) is Nothing.DEAD

    run(test())


def test_a_worker_that_is_stuck_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket takes connections, and nobody hears them."""
    monkeypatch.setattr(peers, "TAKE_UP_S", 0.1)

    async def test() -> None:
        async def follow(request: Request) -> Nothing:
            raise AssertionError

        async with two_peers(tmp_path, follow) as asking:
            assert await asking.follow(2, REQUEST) is Nothing.DEAD

    async def deaf(flying: peers.Flying, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        writer.close()

    monkeypatch.setattr(peers, "_serve", deaf)
    run(test())


def test_only_its_owner_may_ask_and_a_long_path_does_no_harm(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async def test() -> None:
        async def follow(request: Request) -> Nothing:
            return Nothing.OVER

        async with two_peers(deep, follow) as asking:
            (file,) = deep.glob("worker-*.sock")
            assert file.stat().st_mode & 0o777 == 0o600
            assert await asking.follow(2, REQUEST) is Nothing.OVER
        assert not list(deep.iterdir())

    run(test())


def test_sockets_of_servers_that_were_killed_are_removed(tmp_path: Path) -> None:
    mine, gone = tmp_path / f"worker-{os.getpid()}-1.sock", tmp_path / f"worker-{2**22 + 1}-1.sock"
    for file in (mine, gone):
        file.touch()
    peers.tidy(tmp_path)
    assert mine.exists() and not gone.exists()


def test_where_there_can_be_no_socket_others_fetch_for_themselves(tmp_path: Path) -> None:
    async def test() -> None:
        fd = make_table()
        missing = Peers(tmp_path / "missing", os.getpid(), FlightTable(fd, 1))

        async def follow(request: Request) -> Nothing:
            raise AssertionError

        await missing.listen(Flying(follow))
        assert await missing.follow(1, REQUEST) is Nothing.DEAD
        missing.close()
        os.close(fd)

    run(test())


def test_what_landed_since_the_decision_is_a_hit(origin: Origin, path: str, tmp_path: Path) -> None:
    """Between its look-up and its claim, another worker may have fetched, stored and given back."""
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))

    async def test() -> None:
        async with team(tmp_path) as (one, two):
            looked = look_up(two.store, two.config, get(url))
            decision = looked.decide(two.now())
            await landed(one, get(url))
            assert status(await two._answer(looked, decision)).hit
            assert one.flights.elsewhere(looked.key.id) is None, "the claim was given back"

    run(test())
    assert origin.hits(path) == 1


# -- what is just being committed ---------------------------------------------------------------------------


class Slow:
    """A store whose commits of versions and parts wait for `go`."""

    def __init__(self, store: LmdbStore) -> None:
        self.go, self._store = threading.Event(), store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _later(self, name: str, *args: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()

        def work() -> None:
            self.go.wait(10)
            done.set_result(getattr(self._store, name)(*args, **more).result())

        threading.Thread(target=work).start()
        return done

    def add_version(self, *args: Any, **more: Any) -> Future[Any]:
        return self._later("add_version", *args, **more)

    def put_error(self, *args: Any, **more: Any) -> Future[Any]:
        return self._later("put_error", *args, **more)


WHOLE = b"0123456789" * 10


async def ranged(request: Received, peer: Peer) -> None:
    fields = {"ETag": '"a"', **answers.FRESH}
    if request.get("range"):
        fields |= {"Content-Range": "bytes 10-19/100", "Content-Length": "10"}
        await peer.send(answers.head(206, fields) + WHOLE[10:20])
    else:
        await answers.fixed(WHOLE, fields)(request, peer)


@pytest.mark.parametrize("first", [(), (("Range", "bytes=10-19"),)], ids=["whole", "part"])
@pytest.mark.parametrize(
    "then",
    [get, partial(get, offline=True), lambda url, *f: get(url, *f, ("Cache-Control", "only-if-cached"))],
    ids=["anyhow", "offline", "only-if-cached"],
)
def test_whoever_has_the_last_byte_finds_it_with_every_worker(
    origin: Origin,
    path: str,
    tmp_path: Path,
    first: tuple[tuple[str, str], ...],
    then: Callable[..., Request],
) -> None:
    url = origin.on(path, ranged)

    async def test() -> None:
        async with team(tmp_path, wrap=Slow) as (one, two):
            answer = await one.open(get(url, *first))
            expected = WHOLE[10:20] if first else WHOLE
            assert (answer.content if answer.stream is None else await anext(answer.stream)) == expected
            asked = asyncio.ensure_future(two.open(then(url, ("Range", "bytes=10-19"))))
            await asyncio.sleep(0.1)
            assert not asked.done(), "it waits for the commit"
            one.store.go.set()  # type: ignore[attr-defined]
            again = await asked
            assert status(again).hit and await body(again) == WHOLE[10:20]
            answer.close()

    run(test())
    assert origin.hits(path) == 1


def test_who_cannot_wait_is_not_kept_by_a_body_on_its_way(origin: Origin, path: str, tmp_path: Path) -> None:
    gate = threading.Event()
    url = origin.on(path, answers.sized([WHOLE, gate, WHOLE], answers.FRESH))

    async def test() -> None:
        async with team(tmp_path) as (one, two):
            answer = await one.open(get(url))
            assert (await two.open(get(url, offline=True))).status == 504
            gate.set()
            assert await body(answer) == WHOLE * 2

    run(test())


def test_a_claim_stays_until_all_that_needs_it_is_over(tmp_path: Path) -> None:
    """A part lands while a flight of the same worker is under way, and the other way round."""

    async def test() -> None:
        fd = make_table()
        mine, other = Flights(FlightTable(fd, 1)), FlightTable(fd, 2)
        part, work = asyncio.Event(), asyncio.Event()
        task = asyncio.ensure_future(part.wait())
        assert mine.elsewhere("a") is None
        mine.join("a", lambda _: work.wait())  # type: ignore[arg-type, return-value]
        mine.hold("a", task)  # type: ignore[arg-type]
        work.set()
        while mine.get("a"):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert other.claim("a") == 1
        part.set()
        await task
        await asyncio.sleep(0.01)
        assert other.claim("a") == 2
        os.close(fd)

    run(test())
