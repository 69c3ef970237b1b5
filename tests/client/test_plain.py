"""Servers that break off, and servers that speak the plain contract without our extensions."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from pathlib import Path

import pytest

from buffy_client import (
    BuffyDownloadError,
    BuffyPyClient,
    BuffyTimeoutError,
    ReCachingStrategy,
    RequestCacheConfiguration,
)
from tests.client.plain import PlainServer, record
from tests.support.answers import fixed, head, truncated
from tests.support.origin import CLOSE, RESET, Peer, Received


def content(request: BuffyPyClient.Request) -> bytes:
    return b"".join(request.download_response_content(timeout_sec=20))


# -- a server or a way to it that breaks --------------------------------------------------------------------
BODY = bytes(range(256)) * 4096
DIGEST = hashlib.md5(BODY).hexdigest()
CONTENT = "/v1/request/r/response/v/a/content"


class Breaking:
    """Sends the body in parts: each answer ends after `part` bytes, the way `end` says."""

    def __init__(self, part: int, end: str = CLOSE, resumes: bool = True) -> None:
        self.part, self.end, self.resumes = part, end, resumes
        self.starts: list[int] = []
        self.etag = '"a"'

    async def __call__(self, request: Received, peer: Peer) -> None:
        first = 0
        if self.resumes and (wanted := request.get("range")) and request.get("if-range") == self.etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.starts.append(first)
        fields = {"ETag": self.etag, "Content-Length": str(len(BODY) - first)}
        if first:
            fields["Content-Range"] = f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"
        await peer.send(head(206 if first else 200, fields) + BODY[first : first + self.part])
        if first + self.part < len(BODY):
            await (peer.close() if self.end == CLOSE else peer.reset())


@pytest.fixture
def request_a(plain: PlainServer) -> BuffyPyClient.Request:
    """Ordered from a server whose version `a` is ready; its content is the test's."""
    plain.versions = [record("a", content_hash_hex=DIGEST)]
    return plain.client().create_request("http://b.example/x")


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_broken_connection_is_resumed(
    plain: PlainServer, request_a: BuffyPyClient.Request, end: str
) -> None:
    script = Breaking(len(BODY) // 3, end)
    plain.origin.on(CONTENT, script)
    assert content(request_a) == BODY
    assert len(script.starts) >= 3 and script.starts == sorted(script.starts)


def test_a_server_that_cannot_resume_is_read_from_the_start(
    plain: PlainServer, request_a: BuffyPyClient.Request, empty: Path
) -> None:
    script = Breaking(len(BODY) // 2, resumes=False)
    plain.origin.on(CONTENT, script)
    threading.Timer(0.2, lambda: setattr(script, "part", len(BODY))).start()
    request_a._client.download_attempts = 50
    assert request_a.download_response_content_to(empty / "x").read_bytes() == BODY
    assert len(script.starts) > 1


def test_a_part_of_other_bytes_is_refused(plain: PlainServer, request_a: BuffyPyClient.Request) -> None:
    script = Breaking(len(BODY) // 2)
    plain.origin.on(CONTENT, script)
    chunks = request_a.download_response_content()
    next(chunks)
    script.etag = '"b"'
    with pytest.raises(BuffyDownloadError, match="cannot resume"):
        list(chunks)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (truncated(BODY[:1000], len(BODY), {"ETag": '"a"'}), "times in a row"),
        (fixed(b"other bytes", {"ETag": '"a"'}), "digest does not match"),
        (fixed(b"no", status=404), "answer is 404"),
    ],
    ids=["truncated", "damaged", "gone"],
)
def test_never_a_part_under_the_final_name(
    plain: PlainServer, request_a: BuffyPyClient.Request, empty: Path, script: object, words: str
) -> None:
    plain.origin.on(CONTENT, script)  # type: ignore[arg-type]
    (kept := empty / "kept").write_bytes(b"what was there")
    with pytest.raises(BuffyDownloadError, match=words):
        request_a.download_response_content_to(kept)
    assert kept.read_bytes() == b"what was there"
    assert list(empty.iterdir()) == [kept]
    sink = io.BytesIO(b"start")
    sink.seek(5)
    with pytest.raises(BuffyDownloadError, match=words):
        request_a.download_response_content_to(sink)
    assert sink.getvalue() == b"start"


def test_damaged_coding(plain: PlainServer) -> None:
    plain.versions = [record("a")]
    for body, words in ((b"no gzip at all", "damaged"), (b"\x1f\x8b\x08\0", "too early")):
        plain.content("a", body, **{"Content-Encoding": "gzip"})
        with pytest.raises(BuffyDownloadError, match=words):
            content(plain.client().create_request("http://b.example/x"))


# -- a server that speaks the plain contract ----------------------------------------------------------------
def test_registration_is_waited_for(plain: PlainServer) -> None:
    plain.unregistered, plain.versions = 2, [record("a")]
    assert plain.client().create_request("http://b.example/x").response_version == "a"
    assert [one.partition("?")[0] for one in plain.asked()] == [
        "PUT ",
        *["GET r/status/12.5"] * 3,
        "GET r/response/latest",
    ]


def test_a_server_that_cannot_hold_its_answer_is_polled(plain: PlainServer) -> None:
    waiting = [record("a", "wait", download_stats=None)] * 2 + [record("a", "in_progress")]
    plain.versions = [[*waiting, record("a")]]
    plain.content("a", b"x")
    assert content(plain.client().create_request("http://b.example/x")) == b"x"


def test_a_duplicate_gives_the_version_that_it_equals(plain: PlainServer) -> None:
    plain.versions = [record("b", "duplicate", previous_version="a"), record("a")]
    plain.content("a", b"x")
    request = plain.client().create_request("http://b.example/x", hold_request_order=True)
    request.order(prefer_cached=False)
    assert content(request) == b"x"
    assert request.response_version == "a"


def test_the_version_on_its_way_is_waited_for_only_if_wanted(plain: PlainServer) -> None:
    plain.versions = [[record("b", "in_progress"), record("b")], record("a")]
    plain.content("a", b"old")
    plain.content("b", b"new")
    client = plain.client()
    assert content(client.create_request("http://b.example/x")) == b"old"
    request = client.create_request("http://b.example/x", hold_request_order=True)
    request.order(prefer_cached=False)
    assert content(request) == b"new"


def test_a_failed_one_is_replaced_by_a_good_one(plain: PlainServer, caplog: pytest.LogCaptureFixture) -> None:
    failed = record("b", "failed", download_stats={"state": "failed", "error": "the origin is gone"})
    plain.versions = [failed, record("a")]
    plain.content("a", b"x")
    request = plain.client().create_request("http://b.example/x", hold_request_order=True)
    request.order(prefer_cached=False)
    assert content(request) == b"x"
    assert "the origin is gone" in caplog.text


def test_a_configuration_that_an_order_did_not_take_over_is_put(plain: PlainServer) -> None:
    plain.versions, wanted = [record("a")], RequestCacheConfiguration(ReCachingStrategy.age(seconds=3601))
    request = plain.client().create_request("http://b.example/x", cache_configuration=wanted)
    assert request.cache_configuration == wanted
    assert plain.config["recaching_strategy"] == {"strategy_name": "age", "seconds": 3601}


def test_a_server_that_forgot_the_version_gets_the_order_again(plain: PlainServer) -> None:
    plain.order_extra = {"current_response": record("gone", "wait")}
    plain.versions = [record("a")]
    plain.content("a", b"x")
    request = plain.client().create_request("http://b.example/x")
    plain.order_extra = {"current_response": record("a")}
    assert content(request) == b"x"
    assert plain.asked().count("PUT ") == 2


def test_a_short_outage_while_waiting(plain: PlainServer) -> None:
    plain.order_extra = {"current_response": record("a", "wait")}
    plain.versions = [record("a")]
    plain.content("a", b"x")
    client = plain.client()
    client.outage_sec = 10
    request = client.create_request("http://b.example/x")
    plain.origin.stop()
    threading.Timer(0.7, plain.origin.start).start()
    assert content(request) == b"x"


def test_a_deadline_holds_without_a_long_poll(plain: PlainServer) -> None:
    plain.versions = [record("a", "wait")]
    request = plain.client().create_request("http://b.example/x")
    with pytest.raises(BuffyTimeoutError):
        list(request.download_response_content(timeout_sec=0.4))


def test_a_deadline_holds_while_the_server_is_away(plain: PlainServer) -> None:
    plain.versions = [record("a", "wait")]
    client = plain.client()
    client.outage_sec = 30
    request = client.create_request("http://b.example/x")
    plain.origin.stop()
    began = time.monotonic()
    with pytest.raises(BuffyTimeoutError):
        list(request.download_response_content(timeout_sec=0.5))
    assert time.monotonic() - began < 5


def test_all_versions_come_in_pages(plain: PlainServer) -> None:
    plain.versions = [record(f"{number:04}") for number in range(2500, 0, -1)]
    request = plain.client().create_request("http://b.example/x")
    assert len(request.list_cached_versions()) == 10
    assert [one.version for one in request.list_cached_versions(limit=None, skip=1)] == [
        f"{number:04}" for number in range(2499, 0, -1)
    ]
