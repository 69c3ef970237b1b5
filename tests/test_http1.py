"""HTTP/1.1 towards origins: whatever is read here without h11 is what h11 reads."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from buffy_proxy import http1
from buffy_proxy.core.model import Fields
from buffy_proxy.http1 import (
    CLOSED,
    END,
    NEED_DATA,
    Content,
    Event,
    Head,
    Http1,
    Interim,
    Malformed,
    Unwritable,
)

HOST: Fields = ((b"Host", b"x.org"),)
Told = list[object]

BODIES = (b"", b"a", b"hello", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", bytes(range(256)) * 300)
STATUS_LINES = (
    "HTTP/1.1 200 OK",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 200 ",
    "HTTP/1.1 200",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 299 \xe4",
    "HTTP/1.1 103 Early Hints",
    "HTTP/1.1 600 ?",
    "HTTP/2 200",
    "ICY 200 OK",
)
FIELDS = (
    "Content-Type: text/plain",
    "X-Empty:",
    "X-Wide:   a \t b  ",
    "x-obs: \xe4",
    "Connection: keep-alive",
    "Connection: close",
    "Connection: X-Mine",
    "Transfer-Encoding: chunked",
    "Content-Length: 0",
    "content-length: 3",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length: 99999999999999999999",
    "Upgrade: h2c",
    " folded: yes",
    "no colon",
    "bad name: x",
    "X-Nul: \x00",
)


def told(connection: Http1, pieces: Iterator[bytes], method: str, fields: Fields = HOST) -> Told:
    """What becomes of one exchange: heads, all content in one piece, how it ends, whether it may go on."""
    connection.request(method, "/", fields, b"")
    found: Told = []
    content = bytearray()
    while True:
        try:
            event: Event = connection.next_event()
        except Malformed:
            return [*found, bytes(content), "malformed"]
        if event is NEED_DATA:
            connection.receive(next(pieces, b""))
        elif isinstance(event, Content):
            content += event.data
        elif isinstance(event, Head | Interim):
            found.append(event)
        else:
            assert event in (END, CLOSED)
            return [*found, bytes(content), event, connection.next_exchange()]


def generated(rng: random.Random) -> bytes:
    lines = [rng.choice(STATUS_LINES if rng.random() < 0.5 else STATUS_LINES[:2])]
    lines += rng.sample(FIELDS if rng.random() < 0.4 else FIELDS[:5], rng.randrange(4))
    body = rng.choice(BODIES)
    if rng.random() < 0.7:
        lines.insert(rng.randrange(1, len(lines) + 1), f"Content-Length: {len(body)}")
    end = rng.choice(["\r\n"] * 9 + ["\n"])
    data = (end.join([*lines, "", ""])).encode("latin-1") + body
    return (
        data[: rng.randrange(len(data) + 1)]
        if rng.random() < 0.15
        else data + rng.choice([b"", b"", b"", b"x"])
    )


def cut(rng: random.Random, data: bytes) -> Iterator[bytes]:
    while data:
        size = (
            rng.choice([1, 2, 7, 100, len(data)]) if len(data) < 500 else rng.choice([100, 5000, len(data)])
        )
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("seed", range(10))
def test_the_same_as_h11(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        method, data = rng.choice(["GET", "GET", "HEAD"]), generated(rng)
        pieces = list(cut(rng, data))
        ours = told(Http1(), iter(pieces), method)
        with monkeypatch.context() as patched:
            patched.setattr(http1, "parse_response_head", lambda data: None)
            theirs = told(Http1(), iter(pieces), method)
        assert ours == theirs, data


def test_a_plain_exchange_never_touches_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1.h11, "Connection", None)
    connection = Http1()
    for _ in range(3):
        plain = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]
        assert told(connection, iter(plain), "GET")[1:] == [b"ok", END, True]


def test_what_comes_too_early_ends_the_connection() -> None:
    """Content that nobody asked for must not become the answer to the next request."""
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert told(Http1(), iter([surplus]), "GET")[1:] == [b"ok", END, False]


def test_content_comes_as_it_arrives() -> None:
    connection = Http1()
    connection.request("GET", "/", HOST, b"")
    connection.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    assert isinstance(connection.next_event(), Head)
    assert connection.waiting == 2
    assert connection.next_event() == Content(b"ab")
    assert connection.next_event() is NEED_DATA
    connection.receive(b"c")
    assert connection.next_event() == Content(b"c")


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GET", "/a b", HOST),
        ("GET", "/\r\nX: y", HOST),
        ("GET", "/", (*HOST, (b"X\r\nY", b"z"))),
        ("GET", "/", (*HOST, (b"X", b"a\r\nInjected: b"))),
        ("GET", "/", (*HOST, (b"X", b"a\nb"))),
        ("GET", "/", (*HOST, (b"", b"x"))),
        ("GET", "/", (*HOST, (b"X", b"\0"))),
        ("G T", "/", HOST),
        ("GET", "/\u20ac", HOST),
    ],
)
def test_what_cannot_be_written(method: str, target: str, fields: Fields) -> None:
    with pytest.raises(Unwritable):
        Http1().request(method, target, fields, b"")


@pytest.mark.parametrize(
    "fields",
    [
        HOST,
        (*HOST, (b"Accept", b"*/*"), (b"X-Empty", b"")),
        (*HOST, (b"X", b"\xe4\xf6")),
        (*HOST, (b"Connection", b"close")),
        (*HOST, (b"Content-Length", b"0")),
    ],
)
def test_requests_are_written_as_h11_writes_them(fields: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Http1().request("GET", "/a?b", fields, b"")
    monkeypatch.setattr(http1, "write_request_head", lambda *args: None)
    assert ours == Http1().request("GET", "/a?b", fields, b"")


def test_content_is_h11s() -> None:
    fields = (*HOST, (b"Content-Length", b"2"))
    connection = Http1()
    sent = connection.request("POST", "/", fields, b"hi")
    assert sent == b"POST / HTTP/1.1\r\nHost: x.org\r\nContent-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize("first", ["HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 103 Early Hints"])
def test_a_head_has_a_limit_however_it_comes(first: str) -> None:
    """At once, so that it is never incomplete, and in pieces."""
    lines = [first, "Content-Length: 2", *["X: y"] * 50_000]
    data = "\r\n".join([*lines, "", ""]).encode() + b"ok"
    for size in (len(data), 65_536, 1000):
        pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
        assert told(Http1(), pieces, "GET") == [b"", "malformed"]
