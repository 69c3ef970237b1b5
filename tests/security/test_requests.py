"""Client -> Buffy -> origin: shapes that smuggle, in clear text and inside TLS (RFC 9112 §11.2)."""

from __future__ import annotations

import re

import pytest

from tests.security.kit import PATIENCE_S, clear, filled, others_are_served, shout
from tests.security.shapes import CHUNKS, FRAMING, SYNTAX, Must, Shape
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import request_bytes

EVERY = FRAMING + CHUNKS + SYNTAX
INSIDE = tuple(shape for shape in EVERY if re.match(rb"[A-Z]+ http://{host}{path} HTTP/", shape.data))
"""What begins otherwise is taken for another protocol than HTTP inside TLS, and is tunnelled as it is."""


def ids(shape: Shape) -> str:
    return f"{shape.name} ({shape.section})"


def check(shape: Shape, data: bytes, server: Buffy, origin: Origin, path: str, tls: bool) -> None:
    origin.on(path, answers.fixed(b"answered", {"Connection": "close", **answers.FRESH}))
    origin.on(path + "/evil", answers.fixed(b"evil", answers.FRESH))
    if shape.must is Must.PASS:
        data = data.replace(b"\r\nHost:", b"\r\nConnection: close\r\nHost:", 1)
    connection = server.open(origin.url("/"), timeout=PATIENCE_S) if tls else clear(server)
    came = shout(connection, data, finish=shape.must is Must.EITHER)
    assert origin.hits(path + "/evil") == 0
    if shape.must is Must.REFUSE:
        assert came.ended and came.status in (400, 431, 505), came
        assert origin.hits(path) == 0
    elif shape.must is Must.PASS:
        assert came.status == 200 and came.body.endswith(b"answered"), came
        assert [seen.body for seen in origin.seen(path)] == [shape.body]
    else:
        assert came.ended and came.data.count(b"HTTP/1.") <= 2, came


@pytest.mark.parametrize("shape", EVERY, ids=ids)
def test_in_clear_text(server: Buffy, origin: Origin, path: str, shape: Shape) -> None:
    check(shape, filled(shape.data, origin, path, path + "/evil"), server, origin, path, tls=False)
    others_are_served(server, origin)


@pytest.mark.parametrize("shape", [s for s in INSIDE if s.must is not Must.EITHER], ids=ids)
def test_inside_tls(server: Buffy, tls_origin: Origin, path: str, shape: Shape) -> None:
    data = shape.data.replace(b"http://{host}", b"")
    check(shape, filled(data, tls_origin, path, path + "/evil"), server, tls_origin, path, tls=True)
    others_are_served(server, tls_origin)


@pytest.mark.parametrize("shape", [s for s in SYNTAX if s.must is Must.REFUSE], ids=ids)
def test_a_fresh_version_does_not_change_the_answer(
    server: Buffy, origin: Origin, path: str, shape: Shape
) -> None:
    """What is refused on a miss is refused on a hit: the short cut for hits is no way around."""
    url = origin.on(path, answers.fixed(b"stored", answers.FRESH))
    assert server.get(url).cache.stored
    came = shout(clear(server), filled(shape.data, origin, path), finish=False)
    assert came.ended and came.status in (400, 505) and b"stored" not in came.body, came


def test_a_body_behind_a_get_is_no_second_request(server: Buffy, origin: Origin, path: str) -> None:
    """A GET with content passes with it, and its answer is not stored (RFC 9110 §9.3.1)."""
    origin.on(path, answers.echo)
    url = origin.url(path)
    evil = request_bytes("GET", origin.url(path + "/evil"), origin.authority)
    reply = server.request("GET", url, body=evil, timeout=PATIENCE_S)
    assert reply.body.endswith(evil) and not reply.cache.stored
    assert origin.hits(path + "/evil") == 0


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_chunks_in_any_pieces(server: Buffy, origin: Origin, path: str, pieces: int) -> None:
    """Whatever the packets, the content is the same; a chunk's line end is looked at over their borders."""
    url = origin.on(path, answers.fixed(b"thanks"))
    parts = [b"x" * size for size in (1, 2, 40, 5000)]
    body = b"".join(map(answers.chunk, parts)) + b"0\r\nX-Sum: 1\r\n\r\n"
    data = request_bytes("PUT", url, origin.authority, [("Transfer-Encoding", "chunked")], body)
    with server.open(url, timeout=PATIENCE_S) as connection:
        for start in range(0, len(data), pieces if pieces > 1 else len(data)):
            connection.send(data[start : start + (pieces if pieces > 1 else len(data))])
            if start > 400:
                connection.send(data[start + pieces :])
                break
        assert connection.read().body == b"thanks"
    assert origin.seen(path)[0].body == b"".join(parts)


def test_oversized_requests(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9110 §5.4, §4.1; RFC 6585 §5: an error, and not more memory than the limit."""
    url = origin.on(path, answers.fixed(b"x"))
    before = server.memory()
    start = f"PUT {url} HTTP/1.1\r\nHost: {origin.authority}\r\n".encode()
    endless = {
        "a field": start + b"X-A: " + b"x" * 9_000_000,
        "fields": start + b"X-A: b\r\n" * 1_000_000,
        "a target": b"GET " + url.encode() + b"?" + b"x" * 9_000_000,
        "a chunk extension": start + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 9_000_000,
        "trailers": start + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: b\r\n" * 1_000_000,
    }
    for name, data in endless.items():
        came = shout(clear(server), data, finish=False)
        assert came.ended, name
        assert came.status in (0, 400, 431), (name, came.head)  # 0: reset before the answer was read
    assert origin.hits(path) == 0 or all(seen.body == b"" for seen in origin.seen(path))
    assert server.memory() - before < 60 << 20
    others_are_served(server, origin)
