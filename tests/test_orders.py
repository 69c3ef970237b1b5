"""Orders: what they ask for, their records, and how they are carried out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy import order_runner, resume
from buffy_proxy.answer import Answer
from buffy_proxy.cache import Cache
from buffy_proxy.core import rules
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Never, WhenRequested, to_json
from buffy_proxy.order_runner import OrderRunner
from buffy_proxy.orders import Order, OrderBook, Wanted, key_of, wake
from buffy_proxy.plugins import PluginOptions, load_plugins
from buffy_proxy.slots import Slots
from buffy_proxy.store.memory import MemoryStore
from tests.support import answers
from tests.support.origin import Origin
from tests.support.shell import body, cache, get, run, status
from tests.test_resume import DATA, Flaky

NONE = load_plugins(PluginOptions(only=()))
"""Just the built-in strategies."""


def place(made: Cache, url: str, strategy: Any = None, **more: Any) -> Order:
    """What PUT /v1/request/ does."""
    wanted = Wanted(url, **more)
    key = key_of(wanted, wanted.request(), Policy(Never()), made.store.secret, NONE)
    policy = {"recaching_strategy": to_json(strategy or WhenRequested())}
    info = {
        "wanted": {
            "url": url,
            "method": wanted.method,
            "params": dict(wanted.params),
            "header_fields": dict(wanted.header_fields),
            "body": dict(wanted.body),
            "group": wanted.group,
        }
    }
    made.store.set_policy(key, policy, info, now=1.0).result()
    order = OrderBook(made.store).create(key.id)
    wake(made.config.data_dir)
    return order


@contextlib.asynccontextmanager
async def runner(directory: Path, toml: str = "") -> AsyncIterator[Cache]:
    async with cache(directory, toml) as made:
        task = asyncio.ensure_future(OrderRunner(made, Slots(made.config.refresh)).run())
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def finished(made: Cache, order: Order) -> Order:
    book = OrderBook(made.store)
    for _ in range(1000):
        now = book.get(order.resource_id, order.name)
        assert now is not None
        if now.finished:
            return now
        await asyncio.sleep(0.01)
    raise AssertionError(f"not finished: {now}")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "PAUSE_S", 0.01)
    monkeypatch.setattr(order_runner, "PAUSE_S", 0.01)
    monkeypatch.setattr(order_runner, "POLL_S", 0.05)


def test_an_order_brings_a_version_of_its_name(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"hello", {"Content-Type": "text/x"}))

    async def test() -> None:
        async with runner(tmp_path) as made:
            order = place(made, url)
            done = await finished(made, order)
            assert (done.status, done.result, done.downloaded, done.total) == ("ready", order.name, 5, 5)
            assert ("Content-Type", "text/x") in done.fields
            assert [v.name for v in made.store.versions(order.resource_id)] == [order.name]
            again = await finished(made, place(made, url))
            assert (again.status, again.result) == ("duplicate", order.name)

    run(test())
    assert origin.hits(path) == 2


def test_the_proxy_and_an_order_share_one_resource(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"hello", answers.FRESH))

    async def test() -> None:
        async with runner(tmp_path) as made:
            order = place(made, url, Never())
            await finished(made, order)
            hit = await made.open(get(url))
            assert status(hit).hit and await body(hit) == b"hello"

    run(test())
    assert origin.hits(path) == 1


def test_redirects_are_followed(origin: Origin, path: str, tmp_path: Path) -> None:
    target = origin.on(path + "/target", answers.fixed(b"final"))
    url = origin.on(path, answers.redirect(target))

    async def test() -> None:
        async with runner(tmp_path) as made:
            order = place(made, url)
            done = await finished(made, order)
            version = made.store.versions(order.resource_id)[0]
            assert (done.status, version.status) == ("ready", 200)
            assert (b"Content-Location", target.encode()) in version.fields

    run(test())


def test_a_broken_transfer_arrives_whole_and_progress_only_grows(
    origin: Origin, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_runner, "PROGRESS_S", 0.005)
    script = Flaky(step=100_000, busy=2)
    url = origin.on(path, script)
    seen: list[int] = []

    async def test() -> None:
        async with runner(tmp_path) as made:
            order = place(made, url)
            book = OrderBook(made.store)
            while (now := book.get(order.resource_id, order.name)) and not now.finished:
                seen.append(now.downloaded)
                await asyncio.sleep(0.002)
            assert now is not None and now.status == "ready"
            opened = made.open_now(get(url))
            answer = opened if isinstance(opened, Answer) else await made.open(get(url))
            assert made.store.versions(order.resource_id)[0].body.size == len(DATA)
            answer.close()

    run(test())
    assert seen == sorted(seen) and len(set(seen)) > 1


def test_busy_origins_are_asked_again(origin: Origin, path: str, tmp_path: Path) -> None:
    parts = [answers.fixed(b"", {"Retry-After": "0"}, 429)] * 2 + [answers.fixed(b"at last")]

    async def script(request: Any, peer: Any) -> None:
        await parts.pop(0)(request, peer)

    url = origin.on(path, script)

    async def test() -> None:
        async with runner(tmp_path) as made:
            done = await finished(made, place(made, url))
            assert (done.status, done.attempts) == ("ready", 3)

    run(test())


@pytest.mark.parametrize(("code", "attempts"), [(404, 1), (500, 3)])
def test_failures_say_why(
    origin: Origin, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, attempts: int
) -> None:
    monkeypatch.setattr(order_runner, "ATTEMPTS", 3)
    url = origin.on(path, answers.fixed(b"no", status=code))

    async def test() -> None:
        async with runner(tmp_path) as made:
            done = await finished(made, place(made, url))
            assert (done.status, done.attempts) == ("failed", attempts)
            assert str(code) in (done.error or "")
            assert not made.store.versions(done.resource_id)

    run(test())
    assert origin.hits(path) == attempts


def test_what_is_too_large_fails_at_once(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"x" * 200_000))

    async def test() -> None:
        async with runner(tmp_path, 'max_size = "100 kB"') as made:
            done = await finished(made, place(made, url))
            assert (done.status, done.attempts) == ("failed", 1)
            assert "larger than max_size" in (done.error or "")
            answer = await made.open(get(url))
            assert status(answer).detail == "larger than max_size" and await body(answer) == b"x" * 200_000

    run(test())


def test_an_order_that_was_running_is_taken_up_again(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"hello"))

    async def test() -> None:
        async with cache(tmp_path) as made:
            order = place(made, url)
            OrderBook(made.store).put(
                Order(order.resource_id, order.name, 1.0, "in_progress", 2.0, attempts=1)
            )
            task = asyncio.ensure_future(OrderRunner(made, Slots(made.config.refresh)).run())
            done = await finished(made, order)
            task.cancel()
            assert (done.status, done.started_at) == ("ready", 2.0)

    run(test())


def test_the_body_is_sent(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"ok"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    async def test() -> None:
        async with runner(tmp_path) as made:
            await finished(made, place(made, url, method="POST", body={"b": [1], "a": "ä"}))
            await finished(made, place(made, url, method="POST", body={"b": 1}, header_fields=form))

    run(test())
    json_request, form_request = origin.seen(path)
    assert json_request.body == b'{"a":"\\u00e4","b":[1]}'
    assert json_request.get("content-type") == "application/json"
    assert form_request.body == b"b=1"


class TestIdentity:
    def key(self, **more: Any) -> str:
        wanted = Wanted(**{"url": "http://a.example/x", **more})
        return key_of(wanted, wanted.request(), Policy(Never()), b"s" * 32, NONE).id

    def test_key_order_does_not_matter(self) -> None:
        assert self.key(params={"a": 1, "b": 2}) == self.key(params={"b": 2, "a": 1})
        assert self.key(url="http://a.example/x?a=1&b=2") == self.key(params={"b": 2, "a": 1})
        assert self.key(method="POST", body={"a": 1, "b": 2}) == self.key(
            method="POST", body={"b": 2, "a": 1}
        )
        assert self.key(header_fields={"A": "1", "B": "2"}) == self.key(header_fields={"b": "2", "a": "1"})

    def test_what_tells_requests_apart(self) -> None:
        keys = [
            self.key(),
            self.key(params={"a": 1}),
            self.key(method="POST"),
            self.key(method="POST", body={"a": 1}),
            self.key(method="PUT", body={"a": 1}),
            self.key(header_fields={"A": "1"}),
            self.key(header_fields={"A": "2"}),
            self.key(header_fields={"Authorization": "Basic eA=="}),
            self.key(group="other"),
        ]
        assert len(set(keys)) == len(keys)

    def test_a_plain_order_names_what_the_proxy_names(self) -> None:
        proxied = rules.cache_key(get("http://a.example/x"), Policy(Never()), b"s" * 32)
        assert self.key() == proxied.id


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("ftp://a.example/"),
        Wanted("http:///x"),
        Wanted("http://a.example/", header_fields={"X": "a\r\nEvil: b"}),
        Wanted("http://a.example/", header_fields={"X Y": "a"}),
    ],
)
def test_what_cannot_be_requested(wanted: Wanted) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        wanted.request()


def test_old_orders_are_forgotten() -> None:
    book = OrderBook(MemoryStore())
    book.put(Order("r", "a", 1.0, "ready", finished_at=10.0))
    book.put(Order("r", "b", 1.0, "failed", finished_at=500.0))
    book.put(Order("r", "c", 1.0))
    book.forget_old(now=650.0)
    assert [order.name for order in book.of("r")] == ["c", "b"]
    assert [order.name for order in book.pending()] == ["c"]
