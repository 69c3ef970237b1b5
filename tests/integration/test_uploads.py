"""What mitmproxy forwards by itself: origins that say more than one thing, and trailer fields both ways."""

from __future__ import annotations

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Step
from tests.support.wire import Pairs, Reply, request_bytes, target_of

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


def put(server: Buffy, url: str, *, fields: Pairs = (), body: bytes = b"body", times: int = 1) -> list[Reply]:
    """The same request several times on one connection."""
    target, host = target_of(url)
    data = request_bytes("PUT", target, host, fields, body)
    replies = []
    with server.open(url, timeout=10) as connection:
        for _ in range(times):
            connection.send(data)
            replies.append(connection.read())
    return replies


@pytest.mark.parametrize(
    "first",
    [[EARLY], [CONTINUE, CONTINUE], [EARLY[:9], 0.05, EARLY[9:30], 0.05, EARLY[30:]], [CONTINUE, 0.05]],
    ids=["103", "100 twice", "in pieces", "then a pause"],
)
def test_interim_answers_do_not_end_the_exchange(
    server: Buffy, either: Origin, path: str, first: list[Step]
) -> None:
    url = either.on(path, [*first, *answers.sized([b"final"])])
    for reply in put(server, url, times=2):
        assert (reply.status, reply.body) == (200, b"final")
    assert [request.body for request in either.seen(path)] == [b"body"] * 2


def test_trailers_of_an_answer(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.chunked([b"one", b"two"], {}, [("X-Sum", "6")]))
    for reply in put(server, url, times=2):
        assert (reply.status, reply.body) == (200, b"onetwo")


def test_trailers_of_a_request(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"thanks"))
    body = answers.chunk(b"one") + answers.chunk(b"two") + b"0\r\nX-Sum: 6\r\n\r\n"
    for reply in put(server, url, fields=[("Transfer-Encoding", "chunked")], body=body, times=2):
        assert (reply.status, reply.body) == (200, b"thanks")
    assert [request.body for request in either.seen(path)] == [b"onetwo"] * 2


def test_a_head_request_gets_no_body_even_for_errors(server: Buffy, either: Origin, path: str) -> None:
    """Else the client would take the text of an error for the next response."""
    broken = either.on(path, ["reset"])
    fine = either.on(path + "/fine", answers.fixed(b"fine", answers.FRESH))
    with server.open(broken, timeout=10) as connection:
        server.send(connection, "HEAD", broken)
        assert connection.read("HEAD").status == 502
        server.send(connection, "GET", fine)
        assert connection.read().body == b"fine"
