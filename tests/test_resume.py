"""Transfers that break off are continued where they broke, and only where that is sure to be right."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from buffy_proxy import resume
from buffy_proxy.answer import Answer
from tests.support.answers import FRESH, head
from tests.support.bodies import piece
from tests.support.origin import Origin, Peer, Received
from tests.support.shell import body, cache, get, landed, run, status

DATA = piece(7, 0, 600_000)


class Flaky:
    """Breaks each transfer after `step` bytes; `busy` of the later requests get a 429 first."""

    def __init__(self, step: int, busy: int = 0, validator: str = '"v1"', honest: bool = True) -> None:
        self.step, self.busy, self.validator, self.honest = step, busy, validator, honest
        self.ranges: list[str] = []

    async def __call__(self, request: Received, peer: Peer) -> None:
        fields = (
            {"ETag": self.validator, "Accept-Ranges": "bytes", **FRESH} if self.validator else dict(FRESH)
        )
        wanted = re.fullmatch(r"bytes=(\d+)-", request.get("range") or "")
        if wanted and self.busy:
            self.busy -= 1
            await peer.send(head(429, {"Retry-After": "0", "Content-Length": "0"}))
            return
        if wanted and request.get("if-range") == self.validator and self.honest:
            start = int(wanted[1])
            self.ranges.append(wanted[0])
            fields["Content-Range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            fields["Content-Length"] = str(len(DATA) - start)
            await peer.send(head(206, fields) + DATA[start : start + self.step])
        else:
            await peer.send(head(200, {"Content-Length": str(len(DATA)), **fields}) + DATA[: self.step])
        await peer.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "PAUSE_S", 0.01)


async def breaks(url: str, directory: Path) -> None:
    """The client sees that the body is not whole, and nothing is stored."""
    async with cache(directory) as made:
        answer = await made.open(get(url))
        with pytest.raises(Exception, match="closed"):
            await body(answer)
        assert not isinstance(made.open_now(get(url)), Answer)


def test_a_body_arrives_whole_and_once(origin: Origin, path: str, tmp_path: Path) -> None:
    script = Flaky(step=100_000, busy=2)
    url = origin.on(path, script)

    async def test() -> None:
        async with cache(tmp_path) as made:
            await landed(made, get(url))
            hit = await made.open(get(url))
            assert status(hit).hit and await body(hit) == DATA

    run(test())
    assert len(script.ranges) == 5 and script.busy == 0


@pytest.mark.parametrize("validator", ["", 'W/"weak"'])
def test_without_a_strong_validator_it_breaks(
    origin: Origin, path: str, tmp_path: Path, validator: str
) -> None:
    url = origin.on(path, Flaky(step=100_000, validator=validator))

    run(breaks(url, tmp_path))
    assert origin.hits(path) == 1


def test_an_origin_that_starts_again_is_not_spliced(origin: Origin, path: str, tmp_path: Path) -> None:
    url = origin.on(path, Flaky(step=100_000, honest=False))

    run(breaks(url, tmp_path))
    assert origin.hits(path) == 2


def test_without_progress_it_gives_up(
    origin: Origin, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "TRIES", 3)
    url = origin.on(path, Flaky(step=0))
    started = time.monotonic()

    run(breaks(url, tmp_path))
    assert time.monotonic() - started < 10


def test_a_body_that_its_digest_disowns_is_not_stored(origin: Origin, path: str, tmp_path: Path) -> None:
    wrong = "sha-256=:" + "A" * 43 + "=:"
    fields = {"Content-Length": "5", "Content-Digest": wrong, **FRESH}
    url = origin.on(path, [head(200, fields) + b"hello"])

    async def test() -> None:
        async with cache(tmp_path) as made:
            assert await body(await made.open(get(url))) == b"hello"
            again = await landed(made, get(url))
            assert not status(again).hit

    run(test())
