"""`buffy serve --reverse URL`: the same cache in front of one origin."""

from __future__ import annotations

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy, StartFailed
from tests.support.origin import Origin
from tests.support.wire import Pairs, Reply, connect, request_bytes


def ask(server: Buffy, target: str, host: str = "buffy.example", fields: Pairs = (), method: str = "GET",
        body: bytes = b"") -> Reply:  # fmt: skip
    with connect(server.proxy) as connection:
        connection.send(request_bytes(method, target, host, fields, body))
        return connection.read(method)


@pytest.fixture(params=["http", "https"])
def front(request: pytest.FixtureRequest, buffy: Factory, origin: Origin, tls_origin: Origin):  # type: ignore[no-untyped-def]
    """An origin and the server in front of it."""
    which = origin if request.param == "http" else tls_origin
    return which, buffy(args=("--reverse", which.url("").rstrip("/")))


def test_misses_hits_and_the_real_host(front: tuple[Origin, Buffy], path: str) -> None:
    origin, server = front
    origin.on(path, answers.fixed(b"x", answers.FRESH))
    first, second = ask(server, path), ask(server, path, host="another.example")
    assert (first.body, second.body) == (b"x", b"x")
    assert first.cache.stored and second.cache.hit
    assert [seen.get("host") for seen in origin.seen(path)] == [origin.authority]
    assert origin.url(path) in server.cli("ls").stdout.decode()  # keyed on the real target


def test_uploads_go_through_and_invalidate(front: tuple[Origin, Buffy], path: str) -> None:
    origin, server = front
    origin.on(path, answers.fixed(b"x", answers.FRESH))
    ask(server, path)
    ask(server, path, method="PUT", body=b"change")
    seen = origin.seen(path)[-1]
    assert (seen.method, seen.body, seen.get("host")) == ("PUT", b"change", origin.authority)
    assert not ask(server, path).cache.hit


def test_absolute_targets_go_to_the_same_origin(front: tuple[Origin, Buffy], path: str) -> None:
    origin, server = front
    origin.on(path, answers.fixed(b"mine", answers.FRESH))
    for _ in range(2):
        assert ask(server, f"http://elsewhere.example{path}", host="elsewhere.example").body == b"mine"
    assert origin.hits(path) == 1


def test_connect_is_refused(front: tuple[Origin, Buffy]) -> None:
    _, server = front
    assert ask(server, "127.0.0.1:80", host="127.0.0.1:80", method="CONNECT").status == 405


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "http://example.org/path", "http://"])
def test_what_is_no_origin_is_refused(buffy: Factory, url: str) -> None:
    with pytest.raises(StartFailed) as failed:
        buffy(args=("--reverse", url))
    assert failed.value.code == 2 and "origin without a path" in failed.value.stderr
