"""The fields that go to origins and to clients, and what unsafe requests invalidate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buffy_proxy.core.fields import end_to_end, first, get_all
from buffy_proxy.core.messages import (
    answer_fields,
    answers_get,
    answers_itself,
    as_get,
    forward_fields,
    invalidated_urls,
    trace,
)
from tests.core.make import URL, T, date, fields, request, response, version

FORWARDED = [
    ("RFC 9112 §3.2.2: Host follows the target", ["Host: evil.example", "A: 1"], ["A: 1"]),
    ("§7.6.1: hop by hop", ["Connection: x-hop", "X-Hop: 1", "Keep-Alive: 5", "A: 1"], ["A: 1"]),
    (
        "the proxy's credentials",
        ["Proxy-Authorization: Basic eA==", "Authorization: Bearer b"],
        ["Authorization: Bearer b"],
    ),
    ("Accept-Encoding as it is", ["Accept-Encoding: br;q=1, gzip"], ["Accept-Encoding: br;q=1, gzip"]),
    ("duplicates and order", ["b: 1", "A: 2", "B: 3"], ["b: 1", "A: 2", "B: 3"]),
    ("conditions", ['If-None-Match: "a"', "Range: bytes=0-1"], ['If-None-Match: "a"', "Range: bytes=0-1"]),
]


@pytest.mark.parametrize(("why", "given", "sent"), FORWARDED, ids=[row[0] for row in FORWARDED])
def test_forward_fields(why: str, given: list[str], sent: list[str]) -> None:
    made = forward_fields(request(*given), drop_conditionals=False)
    assert made == fields("Host: example.org", *sent, "Via: 1.1 buffy")


def test_what_is_to_be_stored_is_asked_for_whole() -> None:
    conditions = [
        f"{name}: x"
        for name in (
            "Range",
            "If-Range",
            "If-Match",
            "If-None-Match",
            "If-Modified-Since",
            "If-Unmodified-Since",
        )
    ]
    made = forward_fields(request("A: 1", *conditions), drop_conditionals=True)
    assert made == fields("Host: example.org", "A: 1", "Via: 1.1 buffy")


def test_a_chunked_body_keeps_its_framing() -> None:
    given = request("Transfer-Encoding: chunked", method="POST", body=b"abc")
    assert first(forward_fields(given, drop_conditionals=False), b"content-length") == b"3"
    assert first(forward_fields(given, drop_conditionals=False), b"transfer-encoding") is None


def test_host_names_the_port() -> None:
    made = forward_fields(request(url="http://[::1]:8080/a"), drop_conditionals=False)
    assert made[0] == (b"Host", b"[::1]:8080")


def test_answer_fields() -> None:
    stored = version("A: 1", "Via: 1.0 cdn", "Age: 10", "Cache-Status: cdn; hit", "Set-Cookie: a=1", "B: 2")
    made = answer_fields(stored, T + 5.9, b"buffy; hit")
    assert get_all(made, b"age") == [b"15"]  # RFC 9111 §5.1: one, in whole seconds
    assert get_all(made, b"cache-status") == [b"cdn; hit", b"buffy; hit"]  # RFC 9211 §2: the last is ours
    assert get_all(made, b"via") == [b"1.0 cdn", b"1.1 buffy"]
    assert get_all(made, b"set-cookie") == []
    assert [n for n, _ in made if n in (b"A", b"B")] == [b"A", b"B"]
    assert end_to_end(made) == made


def test_cookies_go_to_those_who_were_meant() -> None:
    stored = version("Set-Cookie: a=1", "Set-Cookie: b=2")
    assert len(get_all(answer_fields(stored, T, b"x", replay_cookies=True), b"set-cookie")) == 2


def test_an_undated_answer_is_dated_when_it_came_rfc9110_6_6_1() -> None:
    undated = replace(version(), fields=fields("A: 1"))
    assert get_all(answer_fields(undated, T + 9, b"x"), b"date") == [date().encode()]


BASE = "https://example.org"
INVALIDATED = [  # RFC 9111 §4.4
    ("POST", 200, [], [URL]),
    ("DELETE", 204, [], [URL]),
    ("PUT", 303, [], [URL]),
    ("BREW", 200, [], [URL]),  # unknown methods are unsafe
    ("POST", 404, ["Location: /a"], []),
    ("POST", 500, [], []),
    ("GET", 200, ["Location: /a"], []),
    ("HEAD", 200, [], []),
    ("OPTIONS", 200, [], []),
    ("PROPFIND", 207, [], []),
    ("POST", 201, ["Location: /a"], [URL, f"{BASE}/a"]),
    ("POST", 201, ["Location: /a", "Content-Location: b?c#d"], [URL, f"{BASE}/a", f"{BASE}/b?c"]),
    ("POST", 201, ["Location: HTTPS://EXAMPLE.org:443/a"], [URL, f"{BASE}/a"]),
    ("POST", 201, ["Location: /data"], [URL]),
    ("POST", 201, ["Location: https://other.example/a", "Content-Location: //other.example/b"], [URL]),
    ("POST", 201, ["Location: http://example.org/a"], [URL]),  # another scheme is another origin
    ("POST", 201, ["Location: https://example.org:8443/a"], [URL]),
    ("POST", 201, ["Location: http://[", "Content-Location: \xff "], [URL, f"{BASE}/\udcff"]),
    ("POST", 201, ["Location: /a b"], [URL]),
]


@pytest.mark.parametrize(("method", "status", "lines", "urls"), INVALIDATED)
def test_invalidated_urls(method: str, status: int, lines: list[str], urls: list[str]) -> None:
    assert invalidated_urls(request(method=method), response(status, *lines)) == urls


ITSELF = [
    ("§7.6.2 OPTIONS", "OPTIONS", "0", True),
    ("§7.6.2 TRACE", "TRACE", "0", True),
    ("§7.6.2 more to go", "TRACE", "1", False),
    ("§7.6.2 invalid", "TRACE", "x", False),
    ("§7.6.2 other methods ignore it", "GET", "0", False),
]


@pytest.mark.parametrize(("why", "method", "left", "own"), ITSELF, ids=[row[0] for row in ITSELF])
def test_the_last_recipient(why: str, method: str, left: str, own: bool) -> None:
    made = answers_itself(request(f"Max-Forwards: {left}", method=method))
    assert (made is not None) is own


def test_max_forwards_counts_down() -> None:
    made = forward_fields(request("Max-Forwards: 3", method="OPTIONS"), drop_conditionals=False)
    assert first(made, b"max-forwards") == b"2"
    made = forward_fields(request("Max-Forwards: 3", method="GET"), drop_conditionals=False)
    assert first(made, b"max-forwards") == b"3"


def test_a_trace_has_no_secrets() -> None:
    echo = trace(request("A: 1", "Cookie: s=1", "Authorization: Basic eA==", method="TRACE"))
    assert echo == f"TRACE {URL} HTTP/1.1\r\nA: 1\r\n\r\n".encode()


LIFE = "Cache-Control: max-age=9"
POSTED = [
    ("§9.3.3", "POST", 200, [f"Content-Location: {URL}", LIFE], True),
    ("§9.3.3 relative", "POST", 200, ["Content-Location: data", LIFE], True),
    ("§9.3.3 another URL", "POST", 200, ["Content-Location: /other", LIFE], False),
    ("§9.3.3 no explicit lifetime", "POST", 200, [f"Content-Location: {URL}"], False),
    ("§9.3.3 no Content-Location", "POST", 200, [LIFE], False),
    ("§9.3.3 created", "POST", 201, [f"Content-Location: {URL}", LIFE], False),
    ("§9.3.4 PUT", "PUT", 200, [f"Content-Location: {URL}", LIFE], False),
]


@pytest.mark.parametrize(("why", "method", "status", "lines", "same"), POSTED, ids=[row[0] for row in POSTED])
def test_an_answer_to_post_that_get_would_give(
    why: str, method: str, status: int, lines: list[str], same: bool
) -> None:
    assert answers_get(request(method=method), response(status, *lines)) is same


def test_the_get_of_a_post() -> None:
    posted = request("Content-Type: a/b", "Content-Length: 1", "Accept: c/d", method="POST", body=b"x")
    assert as_get(posted) == request("Accept: c/d")
