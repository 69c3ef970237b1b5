"""Parts, preconditions and HEAD, answered from a stored whole (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import Reply

BODY = bytes(range(256)) * 40
ETAG = '"v1"'
DATE = "Sat, 01 Nov 2025 00:00:00 GMT"
FIELDS = {"ETag": ETAG, "Last-Modified": DATE, "Content-Type": "application/x-test", **answers.FRESH}


@pytest.fixture(params=["http", "https"])
def stored(
    request: pytest.FixtureRequest, server: Buffy, origin: Origin, tls_origin: Origin, path: str
) -> str:
    """The URL of a resource that is stored whole, at an origin that fails from now on."""
    which = origin if request.param == "http" else tls_origin
    url = which.on(path, answers.fixed(BODY, FIELDS))
    assert server.get(url).body == BODY
    which.on(path, ["reset"])
    return url


@pytest.mark.parametrize(
    ("wanted", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-", 10000, 10240),
        ("bytes=-10", 10230, 10240),
        ("bytes=10000-99999", 10000, 10240),
        ("bytes=-99999", 0, 10240),
    ],
)
def test_single_ranges(server: Buffy, stored: str, wanted: str, first: int, stop: int) -> None:
    reply = server.get(stored, [("Range", wanted)])
    assert (reply.status, reply.body) == (206, BODY[first:stop])
    assert reply.get("content-range") == f"bytes {first}-{stop - 1}/{len(BODY)}"
    assert reply.get("content-length") == str(stop - first)
    assert reply.get("etag") == ETAG and reply.get("content-type") == "application/x-test"
    assert reply.cache.hit


def test_a_range_beyond_the_end(server: Buffy, stored: str) -> None:
    reply = server.get(stored, [("Range", "bytes=99999-")])
    assert reply.status == 416 and reply.get("content-range") == f"bytes */{len(BODY)}"


@pytest.mark.parametrize("wanted", ["bytes=abc", "lines=1-2", "bytes=5-1", "", "bytes=-", "bytes"])
def test_ranges_that_say_nothing_are_ignored(server: Buffy, stored: str, wanted: str) -> None:
    reply = server.get(stored, [("Range", wanted)])
    assert (reply.status, reply.body) == (200, BODY)


def test_several_ranges(server: Buffy, stored: str) -> None:
    reply = server.get(stored, [("Range", "bytes=0-9, 100-109")])
    if reply.status == 200:  # a server may always answer the whole (RFC 9110 §14.2)
        assert reply.body == BODY
    else:
        assert reply.status == 206
        assert (reply.get("content-type") or "").startswith("multipart/byteranges")
        assert re.findall(rb"bytes (\d+-\d+)/10240", reply.body) == [b"0-9", b"100-109"]
        assert BODY[:10] in reply.body and BODY[100:110] in reply.body


@pytest.mark.parametrize(
    ("condition", "status"), [(ETAG, 206), ('"other"', 200), ('W/"v1"', 200), (DATE, 206), ("nonsense", 200)]
)
def test_if_range(server: Buffy, stored: str, condition: str, status: int) -> None:
    reply = server.get(stored, [("Range", "bytes=0-9"), ("If-Range", condition)])
    assert (reply.status, reply.body) == (status, BODY[:10] if status == 206 else BODY)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("If-None-Match", ETAG, 304),
        ("If-None-Match", f'"x", W/{ETAG}', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"other"', 200),
        ("If-Modified-Since", DATE, 304),
        ("If-Modified-Since", "Sat, 01 Nov 2008 00:00:00 GMT", 200),
        ("If-Modified-Since", "no date", 200),
    ],
)
def test_preconditions(server: Buffy, stored: str, field: str, value: str, status: int) -> None:
    reply = server.get(stored, [(field, value)])
    assert (reply.status, reply.body) == (status, b"" if status == 304 else BODY)
    assert reply.get("etag") == ETAG and reply.cache.hit


def test_head_from_a_stored_get(server: Buffy, stored: str) -> None:
    reply = server.request("HEAD", stored)
    assert reply.status == 200 and reply.cache.hit and reply.body == b""
    assert reply.get("content-length") == str(len(BODY))
    assert server.request("HEAD", stored, [("If-None-Match", ETAG)]).status == 304


def test_the_connection_goes_on_after_each_of_them(server: Buffy, stored: str) -> None:
    with server.open(stored) as connection:
        for method, fields in (
            ("HEAD", []),
            ("GET", [("Range", "bytes=1-2")]),
            ("GET", [("If-None-Match", "*")]),
        ):
            server.send(connection, method, stored, fields)
            connection.read(method)
        server.send(connection, "GET", stored)
        assert connection.read().body == BODY


def part(server: Buffy, url: str, *fields: tuple[str, str]) -> Reply:
    return server.get(url, [("Range", "bytes=0-9"), *fields])


def test_a_part_is_never_stored_as_the_whole(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.big(10_000, 3, answers.FRESH))
    reply = part(server, url)
    assert reply.status == 206 and len(reply.body) == 10
    assert len(server.get(url).body) == 10_000
    assert part(server, url).cache.hit


def test_a_client_condition_on_a_miss(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.Changing(b"body", answers.FRESH))
    etag = answers.Changing(b"body").etag
    reply = server.get(url, [("If-None-Match", etag)])
    assert (reply.status, reply.body) == (304, b"")
    assert server.get(url).body == b"body"  # a 304 is never stored as an empty whole


def test_curl_resumes_from_the_store(server: Buffy, stored: str, tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(BODY[:5000])
    assert server.curl(stored, "-C", "-", "-o", str(file)).returncode == 0
    assert file.read_bytes() == BODY
