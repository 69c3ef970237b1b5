"""OPTIONS and TRACE with Max-Forwards, through the real proxy (RFC 9110 §7.6.2)."""

from __future__ import annotations

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


@pytest.mark.parametrize("body", [b"", b"<why/>"], ids=["bare", "with a body"])
def test_options_with_nothing_left_stop_here(server: Buffy, either: Origin, path: str, body: bytes) -> None:
    url = either.on(path, answers.echo)
    with server.open(url) as connection:
        server.send(connection, "OPTIONS", url, [("Max-Forwards", "0")], body)
        reply = connection.read("OPTIONS")
        assert (reply.status, reply.body) == (200, b"")
        assert "GET" in (reply.get("allow") or "").split(", ")
        server.send(connection, "GET", url)  # the connection is as good as before
        assert connection.read("GET").status == 200
    assert [request.method for request in either.seen(path)] == ["GET"]


def test_trace_with_nothing_left_comes_back(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.echo)
    fields = [("Max-Forwards", "0"), ("X-Mark", "m1"), ("Authorization", "Bearer t0ken")]
    reply = server.request("TRACE", url, fields)
    assert (reply.status, reply.get("content-type")) == (200, "message/http")
    assert reply.body.startswith(f"TRACE {url} HTTP/1.1\r\n".encode())
    assert b"X-Mark: m1\r\n" in reply.body and b"t0ken" not in reply.body
    assert either.hits(path) == 0


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_else_the_origin_gets_one_less(server: Buffy, either: Origin, path: str, method: str) -> None:
    url = either.on(path, answers.echo)
    assert server.request(method, url, [("Max-Forwards", "3")]).status == 200
    assert either.seen(path)[-1].all("max-forwards") == ["2"]


def test_a_streamed_body_counts_down_too(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.echo)
    assert server.request("OPTIONS", url, [("Max-Forwards", "3")], b"<why/>").status == 200
    seen = either.seen(path)[-1]
    assert (seen.all("max-forwards"), seen.body) == (["2"], b"<why/>")


def test_other_methods_do_not_count(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.echo)
    assert server.get(url, [("Max-Forwards", "0")]).status == 200
    assert either.seen(path)[-1].all("max-forwards") == ["0"]
