"""Cache, when an origin fails, a client leaves, and when nobody asks: renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from buffy_proxy.answer import Answer
from buffy_proxy.core.model import BodyRef, Version
from buffy_proxy.errors import BodyMissing, OriginError, StoreUnusable
from buffy_proxy.store import BodyReader, open_store
from buffy_proxy.store.memory import MemoryStore
from tests.support import answers
from tests.support.bodies import piece
from tests.support.origin import CLOSE, RESET, Origin
from tests.support.procs import free_port
from tests.support.shell import Clock, body, cache, get, landed, run, status

KEEP = '[[rule]]\nmatch = "**"\nstrategy = {{ strategy_name = "{}" }}\n'


FAILURES = {
    "closes": ([CLOSE], "connection_terminated", ""),
    "resets": ([RESET], "", ""),
    "is cut": (answers.truncated(b"half", 100), "", ""),
    "is no http": ([b"hello?\r\n\r\n"], "http_protocol_error", ""),
    "503": (answers.fixed(b"down", status=503), "", "503"),
    "429": (answers.fixed(b"slow", {"Retry-After": "9"}, status=429), "", "429"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("strategy", ["http", "when_requested"])
def test_a_stored_version_answers_when_the_origin_fails(
    origin: Origin, path: str, tmp_path: Path, name: str, strategy: str
) -> None:
    script, word, fwd_status = FAILURES[name]
    url = origin.on(path, answers.fixed(b"good", answers.STALE))

    async def test() -> None:
        clock = Clock()
        async with cache(tmp_path, KEEP.format(strategy), clock) as made:
            await landed(made, get(url))
            clock.now += 10
            origin.on(path, script)  # type: ignore[arg-type]
            for _ in range(2):
                answer = await made.open(get(url))
                assert (answer.status, await body(answer)) == (200, b"good")
                assert "stale" in status(answer).detail
                assert status(answer).params.get("fwd-status", "") == fwd_status
                assert status(answer).hit is (not fwd_status)

            if word:
                none = await made.open(get(url, group="elsewhere"))
                assert none.status == 502 and status(none).detail == word

    run(test())


@pytest.mark.parametrize("size", [5_000, 100_000])
@pytest.mark.parametrize(
    "fields", [answers.FRESH, {"Cache-Control": "no-store"}], ids=["stored", "not stored"]
)
def test_the_bytes_of_a_body_that_is_cut_arrive(
    origin: Origin, path: str, tmp_path: Path, size: int, fields: dict[str, str]
) -> None:
    """Though the flight may be over before its clients have come to read."""
    url = origin.on(path, answers.truncated(bytes(size), 9_000_000, fields))

    async def test() -> None:
        async with cache(tmp_path, store=open_store(tmp_path, max_size=1 << 30, map_size=1 << 26)) as made:
            opened = await asyncio.gather(*(made.open(get(url)) for _ in range(3)))
            for answer in opened:
                got = 0
                assert answer.stream is not None
                with pytest.raises(OriginError):
                    async for chunk in answer.stream:
                        got += len(chunk)
                assert got == size
                answer.close()
            while len(made.flights):
                await asyncio.sleep(0.005)
            assert not list((tmp_path / "tmp").iterdir())
            made.store.close()

    run(test())


class Sick(MemoryStore):
    """A store whose bodies, or all of which, cannot be read."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def versions(self, resource_id: str) -> Sequence[Version]:
        if self.what == "records":
            raise StoreUnusable("cannot be read")
        return super().versions(resource_id)

    def open_body(self, ref: BodyRef) -> BodyReader:
        if self.what == "bodies":
            raise StoreUnusable("cannot be read")
        if self.what == "missing":
            raise BodyMissing("is not there")
        return super().open_body(ref)

    def error_response(self, resource_id: str) -> Version | None:
        if self.what == "bug":
            raise ZeroDivisionError
        return super().error_response(resource_id)


@pytest.mark.parametrize("what", ["records", "bodies", "missing", "bug"])
def test_a_store_that_cannot_be_read_costs_no_answer(
    origin: Origin, path: str, tmp_path: Path, what: str
) -> None:
    url = origin.on(path, answers.fixed(b"good", answers.FRESH))

    async def test() -> None:
        store = Sick("")
        async with cache(tmp_path, store=store) as made:
            await landed(made, get(url))
            store.what = what
            assert not isinstance(made.open_now(get(url)), Answer)
            assert await body(await made.open(get(url))) == b"good"
            assert origin.hits(path) == 2
            offline = await made.open(get(url, offline=True))
            assert (offline.status, origin.hits(path)) == (504, 2), "offline opens no connection"

    run(test())


def test_an_order_with_an_unknown_strategy_falls_back_to_the_rules(
    origin: Origin, path: str, tmp_path: Path
) -> None:
    url = origin.on(path, answers.fixed(b"good", answers.FRESH))

    async def test() -> None:
        async with cache(tmp_path) as made:
            await landed(made, get(url))
            (resource,) = made.store.resources()
            gone = {"recaching_strategy": {"strategy_name": "of_a_plugin_that_is_gone"}}
            made.store.set_policy(resource.key, gone, None, now=0)
            assert status(await made.open(get(url))).hit

    run(test())


def test_an_origin_that_is_gone(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"

    async def test() -> None:
        async with cache(tmp_path) as made:
            answers_ = await asyncio.gather(*(made.open(get(url)) for _ in range(5)))
            for answer in answers_:
                fields = dict(answer.fields)
                assert answer.status == 502 and b"connection_refused" in fields[b"Proxy-Status"]
                assert url.encode() in await body(answer)
            assert (await made.open(get(url, offline=True))).status == 504
            assert len(made.flights) == 0

    run(test())


def test_a_client_that_leaves_at_any_moment_harms_nobody(origin: Origin, path: str, tmp_path: Path) -> None:
    """Clients leave before the head, in mid-body, and as others come; who stays gets every byte."""
    data = piece(2, 0, 300_000)
    parts = [data[start : start + 10_000] for start in range(0, len(data), 10_000)]
    slow = [step for part in parts for step in (part, 0.002)]
    url = origin.on(path, [0.01, *answers.sized(slow, {"Cache-Control": "max-age=1"})])

    async def test() -> None:
        clock, store = Clock(), MemoryStore()
        async with cache(tmp_path, clock=clock, store=store) as made:

            async def visit(stays_s: float | None) -> bytes | None:
                try:
                    async with asyncio.timeout(stays_s):
                        answer = await made.open(get(url))
                        return await body(answer)
                except TimeoutError:
                    return None

            for round_ in range(6):
                clock.now += 10
                visits = []
                for number in range(12):
                    stays = None if number % 4 == 3 else 0.003 * (number + round_)
                    visits.append(asyncio.ensure_future(visit(stays)))
                    await asyncio.sleep(0.003)
                got = await asyncio.gather(*visits)
                assert all(each in (None, data) for each in got)
                assert all(got[number] == data for number in (3, 7, 11))
            while len(made.flights):
                await asyncio.sleep(0.005)
            assert store.usage().bodies == 1

    run(test())


@pytest.mark.parametrize("strategy", ["http", "age", "when_remote_changed"])
def test_renewal(origin: Origin, path: str, tmp_path: Path, strategy: str) -> None:
    thing = answers.Changing(b"one", {"Cache-Control": "max-age=5"})
    url = origin.on(path, thing)

    async def test() -> None:
        clock, store = Clock(), MemoryStore()
        async with cache(tmp_path, KEEP.format(strategy), clock, store) as made:
            await landed(made, get(url))
            (resource,) = store.resources()
            for new, count in ((b"one", 1), (b"two", 2)):
                thing.body = new
                clock.now += 100
                assert await made.renew(resource, store.versions(resource.id)[0]) is None
                found = store.versions(resource.id)
                assert len(found) == count and found[0].validated_at == clock.now
            thing.status = 503
            failed = await made.renew(resource, store.versions(resource.id)[0])
            assert failed is not None and failed.status == 503
            origin.on(path, [CLOSE])
            failed = await made.renew(resource, store.versions(resource.id)[0])
            assert failed is not None and failed.error.word == "connection_terminated"

    run(test())


def test_the_renewal_of_what_may_not_be_stored_any_more_ends(
    origin: Origin, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads a renewal: without a store behind it, its body must not wait for a reader for ever."""
    monkeypatch.setattr("buffy_proxy.spool.UNREAD_S", 0.1)
    url = origin.on(path, answers.fixed(b"good", answers.FRESH))

    async def test() -> None:
        store = MemoryStore(max_size=4 << 20)
        async with cache(tmp_path, store=store) as made:
            await landed(made, get(url))
            (resource,) = store.resources()
            (version,) = store.versions(resource.id)
            for fields in ({"Cache-Control": "no-store"}, answers.FRESH):
                origin.on(path, answers.big(8 << 20, 1, fields))
                failed = await asyncio.wait_for(made.renew(resource, version), 5)
                assert failed is not None and failed.error.word == "http_response_incomplete"
            assert list(store.versions(resource.id)) == [version]

    run(test())
