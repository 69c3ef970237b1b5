"""The fields that go to origins and to clients, and what unsafe requests invalidate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buffy_proxy.core.fields import end_to_end, first, get_all
from buffy_proxy.core.messages import answer_fields, forward_fields, invalidated_urls
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
