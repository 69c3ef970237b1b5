"""The shell around the core: one Cache, a store in memory, a scripted origin, one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from buffy_proxy.answer import Answer
from buffy_proxy.cache import NOT_COLLAPSED_S
from buffy_proxy.lookup import Looked
from tests.support import answers
from tests.support.bodies import piece
from tests.support.origin import Origin, Peer, Received, Step
from tests.support.shell import Clock, body, cache, get, landed, run, status


def test_a_miss_then_hits(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"hello", {"ETag": '"a"', **answers.FRESH}))

    async def test() -> None:
        async with cache(tmp_path) as made:
            looked = made.open_now(get(url))
            assert isinstance(looked, Looked)
            miss = status(await landed(made, get(url)))
            assert (miss.hit, miss.fwd, miss.stored, miss.collapsed) == (False, "uri-miss", True, False)
            late = await made.open(get(url), looked)
            assert status(late).hit, "what was looked up before the commit does not count any more"
            hit = await made.open(get(url))
            assert status(hit).hit and await body(hit) == b"hello" and hit.source == "cache"
            now = made.open_now(get(url))
            assert isinstance(now, Answer) and now.content == b"hello" and now.fields == hit.fields
            head = await made.open(get(url, method="HEAD"))
            assert (head.status, head.size, await body(head)) == (200, 5, b"")
            assert (await made.open(get(url, ("If-None-Match", '"a"')))).status == 304
            part = await made.open(get(url, ("Range", "bytes=1-2")))
            assert (part.status, await body(part)) == (206, b"el")

    run(test())
    assert origin.hits(path) == 1


def test_followers_read_along_with_one_request(origin: Origin, path: str, tmp_path: Path) -> None:
    go, data = threading.Event(), piece(1, 0, 3 << 20)
    url = origin.on(path, [*answers.sized([data[:1000], go, data[1000:]], answers.FRESH)])

    async def test() -> None:
        async with cache(tmp_path) as made:
            opened = await asyncio.gather(*(made.open(get(url)) for _ in range(20)))
            assert [status(a).collapsed for a in opened] == [False] + [True] * 19
            assert not go.is_set(), "all have a head before the origin has finished"
            go.set()
            opened[0].close()  # the leader leaves
            got = await asyncio.gather(*(body(a) for a in opened[1:]))
            assert all(each == data for each in got)
            assert status(await landed(made, get(url))).hit

    run(test())
    assert origin.hits(path) == 1


def test_a_variant_that_does_not_match_goes_alone(origin: Origin, path: str, tmp_path: Path) -> None:
    go = threading.Event()

    async def speak(request: Received, peer: Peer) -> None:
        words = (request.get("accept-language") or "").encode()
        await peer.send(
            answers.head(200, {"Vary": "Accept-Language", "Content-Length": "2", **answers.FRESH})
        )
        await peer.wait(go)
        await peer.send(words)

    url = origin.on(path, speak)

    async def test() -> None:
        async with cache(tmp_path) as made:
            wanted = ["de", "fr", "de"]
            asked = [made.open(get(url, ("Accept-Language", each))) for each in wanted]
            opened = await asyncio.gather(*asked)
            go.set()
            assert [await body(a) for a in opened] == [b"de", b"fr", b"de"]
            assert [status(a).collapsed for a in opened] == [False, False, True]

    run(test())
    assert origin.hits(path) == 2


def test_what_cannot_be_stored_is_not_waited_for_again(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.fixed(b"private", {"Cache-Control": "no-store"}))

    async def test() -> None:
        clock = Clock()
        async with cache(tmp_path, clock=clock) as made:
            first = await asyncio.gather(*(made.open(get(url)) for _ in range(3)))
            assert [await body(a) for a in first] == [b"private"] * 3
            assert not any(status(a).stored or status(a).collapsed for a in first)
            again = [asyncio.ensure_future(made.open(get(url))) for _ in range(3)]
            await asyncio.sleep(0)
            assert len(made.flights) == 3, "each has a flight of its own"
            await asyncio.gather(*map(body, await asyncio.gather(*again)))
            clock.now += NOT_COLLAPSED_S + 1
            later = [asyncio.ensure_future(made.open(get(url))) for _ in range(3)]
            await asyncio.sleep(0)
            assert len(made.flights) == 1
            await asyncio.gather(*map(body, await asyncio.gather(*later)))

    run(test())


@pytest.mark.parametrize("framing", [answers.sized, answers.chunked])
def test_a_client_with_its_own_copy_leaves_one_here(
    origin: Origin, path: str, tmp_path: Path, framing: Callable[..., list[Step]]
) -> None:
    """npm and pip ask with If-None-Match; they get a 304 at once, and the body is stored all the same."""
    url = origin.on(path, framing([b"one", 0.05, b"two"], {"ETag": '"a"', **answers.FRESH}))

    async def test() -> None:
        async with cache(tmp_path) as made:
            assert (await landed(made, get(url, ("If-None-Match", '"a"')))).status == 304
            assert await body(await made.open(get(url, offline=True))) == b"onetwo"

    run(test())


def test_a_body_without_end_is_not_read_for_nobody(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, answers.chunked([bytes(1 << 20), 0.001] * 64, {"ETag": '"a"', **answers.FRESH}))

    async def test() -> None:
        async with cache(tmp_path) as made:
            assert (await landed(made, get(url, ("If-None-Match", '"a"')))).status == 304
            assert (await made.open(get(url, offline=True))).status == 504

    run(test())
