"""Nobody there: the content comes directly from its origin, whole, and the client says so once."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from buffy_client import (
    BuffyDownloadError,
    BuffyPyClient,
    BuffyTimeoutError,
    BuffyUnreachableError,
    RequestCacheConfiguration,
)
from tests.client.plain import PlainServer, record
from tests.support.answers import big, echo, fixed, head, sized, truncated, zipped
from tests.support.bodies import slices
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import free_port

SIZE = 3_000_000
SEED = 7
BODY = b"".join(slices(SEED, 0, SIZE))


@pytest.fixture
def alone() -> Iterator[BuffyPyClient]:
    """A client whose server is not there."""
    with BuffyPyClient(f"http://127.0.0.1:{free_port()}") as made:
        made.first_retry_sec = 0.01
        yield made


def content(request: BuffyPyClient.Request) -> bytes:
    return b"".join(request.download_response_content())


class Stubborn:
    """An origin of BODY with a bad day: answers in order of `days`, then well.

    A number sends that many bytes and breaks off, "429" and "503" refuse. `etag` None: no way to resume.
    """

    def __init__(self, *days: int | str, etag: str | None = '"b"', wait: str | None = None) -> None:
        self.days, self.etag, self.wait = list(days), etag, wait
        self.starts: list[int] = []

    async def __call__(self, request: Received, peer: Peer) -> None:
        day = self.days.pop(0) if self.days else SIZE
        if isinstance(day, str):
            fields = {"Retry-After": self.wait} if self.wait is not None else {}
            await peer.send(head(int(day), {"Content-Length": "0", **fields}))
            return
        first = 0
        if self.etag and (wanted := request.get("range")) and request.get("if-range") == self.etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.starts.append(first)
        fields = {"Content-Length": str(SIZE - first), **({"ETag": self.etag} if self.etag else {})}
        if first:
            fields["Content-Range"] = f"bytes {first}-{SIZE - 1}/{SIZE}"
        await peer.send(head(206 if first else 200, fields) + BODY[first : first + day])
        if first + day < SIZE:
            await peer.close()


def test_it_says_so_once(
    alone: BuffyPyClient, origin: Origin, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = origin.on(path, fixed(b"x"))
    with caplog.at_level(logging.WARNING, "buffy_client"):
        assert [content(alone.create_request(url)) for _ in range(3)] == [b"x"] * 3
    (said,) = caplog.records
    assert "no Buffy server answers" in said.message and "uncached" in said.message


def test_not_allowed(origin: Origin, path: str) -> None:
    url = origin.on(path, fixed(b"x"))
    client = BuffyPyClient(host="127.0.0.1", port=free_port(), local_download_fallback=False)
    with pytest.raises(BuffyUnreachableError, match="start one with `buffy serve`"):
        client.create_request(url)
    assert origin.hits(path) == 0


def test_breaks_and_refusals_are_survived(
    alone: BuffyPyClient, origin: Origin, path: str, tmp_path: Path
) -> None:
    part = SIZE // 8
    script = Stubborn(part, "429", part, part, "503", part, part, "429", part, wait="0")
    request = alone.create_request(origin.on(path, script))
    assert request.download_response_content_to(tmp_path / "x").read_bytes() == BODY
    assert script.starts == sorted(script.starts) and len(script.starts) == 7
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_an_origin_that_cannot_resume_is_read_again(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Stubborn(SIZE // 2, SIZE // 3, etag=None)
    assert content(alone.create_request(origin.on(path, script))) == BODY
    assert script.starts == [0, 0, 0]


def test_an_origin_that_never_gets_to_the_end(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    request = alone.create_request(origin.on(path, truncated(b"abc", 10)))
    with pytest.raises(BuffyDownloadError, match="times in a row"):
        content(request)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(alone: BuffyPyClient, origin: Origin, path: str, as_date: bool) -> None:
    wait = formatdate(time.time() + 2, usegmt=True) if as_date else "1"
    script = Stubborn("429", wait=wait)
    began = time.monotonic()
    assert content(alone.create_request(origin.on(path, script))) == BODY
    assert time.monotonic() - began > 0.8


def test_a_retry_after_beyond_all_patience(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    request = alone.create_request(origin.on(path, Stubborn("429", wait="86400")))
    with pytest.raises(BuffyDownloadError, match="asks to wait 86400 s"):
        content(request)


def test_a_deadline_beyond_retry_after(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    request = alone.create_request(origin.on(path, Stubborn(*["429"] * 9, wait="30")))
    began = time.monotonic()
    with pytest.raises(BuffyTimeoutError):
        list(request.download_response_content(timeout_sec=0.5))
    assert time.monotonic() - began < 3


def test_a_final_answer_is_not_asked_for_again(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    with pytest.raises(BuffyDownloadError, match="404"):
        content(alone.create_request(origin.on(path, fixed(b"no", status=404))))
    assert origin.hits(path) == 1


def test_the_name_comes_along(alone: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    origin.on(f"{path}/*", fixed(b"x", {"Content-Disposition": "attachment; filename=data.csv"}))
    request = alone.create_request(origin.url(f"{path}/page"))
    assert request.get_filename() == "data.csv"
    assert request.download_response_content_to(dir=empty) == empty / "data.csv"


def test_no_name_anywhere(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    request = alone.create_request(origin.on(path, fixed(b"x")))
    assert request.get_filename() == "download"
    assert request.get_filename(None) is None


def test_coded_content(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    assert content(alone.create_request(origin.on(path, zipped(b"text" * 999)[0]))) == b"text" * 999


def test_the_origin_gets_the_whole_request(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    url = origin.on(path, echo)
    for fields, expected in (({}, {"k": 1}), ({"content-type": "application/x-www-form-urlencoded"}, "k=1")):
        request = alone.create_request(url, "post", {"q": "a b"}, {"k": 1}, {"X-Mine": "1", **fields})
        sent = content(request).decode()
        assert sent.startswith(f"POST {path}?q=a+b HTTP/1.1") and "X-Mine: 1" in sent
        body = sent.partition("\r\n\r\n")[2]
        assert (json.loads(body) if isinstance(expected, dict) else body) == expected


def test_what_needs_a_server(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    request = alone.create_request(origin.on(path, fixed(b"x")))
    assert request.response_version is request.next_version is request.previous_version is None
    for act in (request.pin, lambda: request.tag("good"), request.list_cached_versions):
        with pytest.raises(BuffyUnreachableError, match="cannot"):
            act()
    request.cache_configuration = RequestCacheConfiguration(max_cached_unpinned_versions=9)
    assert request.cache_configuration.max_cached_unpinned_versions == 9


def test_force_is_never_given_something_else(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    url = origin.on(path, fixed(b"x"))
    request = alone.create_request(url, hold_request_order=True)
    with pytest.raises(BuffyUnreachableError, match="version 1a"):
        request.order(force_version="1a")
    request = alone.create_request(url)
    request.force_tag = "good"
    with pytest.raises(BuffyUnreachableError, match="tag 'good'"):
        content(request)
    assert origin.hits(path) == 0


def test_a_server_that_vanishes_in_mid_order(
    plain: PlainServer, origin: Origin, path: str, tmp_path: Path
) -> None:
    plain.versions = [[record("a", "wait")] * 1000]
    request = plain.client(local_download_fallback=True).create_request(
        origin.on(path, big(SIZE, SEED)), hold_request_order=True
    )
    request.order(prefer_cached=False)
    threading.Timer(0.3, plain.origin.stop).start()
    assert request.download_response_content_to(tmp_path / "x", timeout_sec=20).read_bytes() == BODY


def test_a_server_that_vanishes_before_the_content(plain: PlainServer, origin: Origin, path: str) -> None:
    plain.order_extra = {"current_response": record("a")}
    client = plain.client(local_download_fallback=True, http_headers={"X-Mine": "1"})
    client.download_attempts = 2
    request = client.create_request(origin.on(path, fixed(b"x")))
    plain.origin.stop()
    assert content(request) == b"x"
    assert origin.seen(path)[0].get("x-mine") is None  # what is for the server is for the server only


def test_slow_origins_are_waited_for(alone: BuffyPyClient, origin: Origin, path: str) -> None:
    request = alone.create_request(origin.on(path, sized([b"a", 0.5, b"b"])))
    assert content(request) == b"ab"


def test_an_origin_that_is_not_there_either(alone: BuffyPyClient, empty: Path) -> None:
    alone.download_attempts = 2
    request = alone.create_request(f"http://127.0.0.1:{free_port()}/data.csv?sig=s3cret&x=1")
    assert request.get_filename() == "data.csv"
    with pytest.raises(BuffyDownloadError, match="Connection refused") as caught:
        request.download_response_content_to(dir=empty)
    assert "s3cret" not in str(caught.value) and "x=1" in str(caught.value)
    assert list(empty.iterdir()) == []


def test_what_is_no_url_is_not_tried_again(alone: BuffyPyClient) -> None:
    request = alone.create_request("nonsense")
    began = time.monotonic()
    with pytest.raises(BuffyDownloadError, match="cannot be asked for"):
        content(request)
    assert time.monotonic() - began < 1
