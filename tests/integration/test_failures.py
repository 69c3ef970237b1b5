"""When an origin fails a stored version answers and says why; and no failure ever becomes a version."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.authority import Authority
from tests.support.buffy import Buffy
from tests.support.listeners import Listener, silent
from tests.support.origin import Origin, Step
from tests.support.procs import free_port
from tests.support.wire import Incomplete, Refused, Reply

CONFIG = """
[timeouts]
connect = 2
first_byte = 1
idle = 1

[[rule]]
match = "{http}/ask/**"
strategy = "when_requested"

[[rule]]
match = "{https}/ask/**"
strategy = "when_requested"
"""

GOOD = b"the good version" * 50
FAULTS: dict[str, list[Step]] = {
    "reset": ["reset"],
    "closed without a byte": ["close"],
    "half a head": [b"HTTP/1.1 200 OK\r\nContent-", "close"],
    "no HTTP": [b"\x00\x01\x02 what is this\r\n\r\n", "close"],
    "500": [answers.head(500, {"Content-Length": "4"}), b"oops"],
    "502": [answers.head(502, {"Content-Length": "4"}), b"oops"],
    "503": [answers.head(503, {"Content-Length": "4", "Retry-After": "never"}), b"oops"],
    "504": [answers.head(504, {"Content-Length": "0"})],
    "silence": [3.0, "close"],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "close"],
}


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


def stale_answer(reply: Reply) -> None:
    """What every fallback must be: the good bytes, and a Cache-Status that says why."""
    assert (reply.status, reply.body) == (200, GOOD)
    assert reply.all("age")
    assert reply.cache.raw.startswith("buffy") and reply.cache.detail, reply.cache.raw


def still_good(server: Buffy, either: Origin, path: str) -> None:
    """The fault stored nothing: the version is there, alone and whole."""
    either.on(path, ["reset"])
    assert server.get(either.url(path)).body == GOOD


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stored_version_answers_for_an_origin_that_fails(
    server: Buffy, either: Origin, path: str, fault: str
) -> None:
    path = "/ask" + path.replace(" ", "-")
    url = either.on(path, answers.fixed(GOOD))
    assert server.get(url).body == GOOD
    either.on(path, FAULTS[fault])
    stale_answer(server.get(url))
    still_good(server, either, path)


@pytest.mark.parametrize("broken", [answers.truncated(b"bad" * 9, 999), answers.truncated_chunks(b"bad" * 9)])
def test_a_truncated_body_never_replaces_a_version(
    server: Buffy, either: Origin, path: str, broken: list[Step]
) -> None:
    path = "/ask" + path
    url = either.on(path, answers.fixed(GOOD))
    server.get(url)
    either.on(path, broken)
    try:  # the head had gone out before anybody knew: then the client must see that bytes are missing
        stale_answer(server.get(url))
    except Incomplete:
        pass
    still_good(server, either, path)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429])
def test_an_error_page_never_replaces_a_version(
    server: Buffy, either: Origin, path: str, status: int
) -> None:
    path = "/ask" + path
    url = either.on(path, answers.fixed(GOOD))
    server.get(url)
    either.on(path, answers.fixed(b"error page", answers.STALE, status))
    server.get(url)
    still_good(server, either, path)


def test_an_origin_that_is_down(buffy: Factory, authority: Authority) -> None:
    """It must show 7: every stored resource is still served, and says why."""
    server, origins = buffy(), [Origin(), Origin(authority.context())]
    urls = [o.on(f"/{n}", answers.Changing(GOOD, answers.STALE)) for o in origins for n in range(5)]
    try:
        for url in urls:
            assert server.get(url).body == GOOD
        for origin in origins:
            origin.stop()
        for url in urls:
            reply = server.get(url)
            stale_answer(reply)
            assert "connection_refused" in reply.cache.detail or "refused" in reply.cache.detail.lower()
        server.restart()
        for url in urls:
            stale_answer(server.get(url))
    finally:
        for origin in origins:
            origin.shut_down()


def test_must_revalidate_is_obeyed(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.Changing(GOOD, {"Cache-Control": "max-age=0, must-revalidate"}))
    server.get(url)
    origin.on(path, ["reset"])
    assert server.get(url).status in (502, 504)


def test_an_origin_certificate_that_nobody_trusts(server: Buffy, authority: Authority, path: str) -> None:
    stranger = Origin(Authority.stranger())
    try:
        url = stranger.on(path, answers.fixed(b"secret"))
        try:
            reply = server.get(url)
            assert reply.status == 502 and b"ertificate" in reply.body, reply
        except Refused as refused:
            assert refused.reply.status == 502
        assert stranger.hits(path) == 0
    finally:
        stranger.shut_down()


def test_a_name_that_does_not_exist(server: Buffy) -> None:
    reply = server.get("http://no-such-host.invalid/x")
    assert reply.status in (502, 504) and b"no-such-host.invalid" in reply.body
    assert reply.cache.fwd == "uri-miss"


def test_a_port_where_nobody_listens(server: Buffy) -> None:
    port = free_port()
    reply = server.get(f"http://127.0.0.1:{port}/x")
    assert reply.status == 502 and str(port).encode() in reply.body


def test_an_origin_that_never_answers(server: Buffy) -> None:
    with Listener(silent) as listener:
        began = time.monotonic()
        reply = server.get(f"http://127.0.0.1:{listener.port}/x")
    assert reply.status == 504 and time.monotonic() - began < 8


def test_an_origin_that_stops_in_the_middle(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.sized([b"half", 4.0, b"rest"], answers.FRESH))
    with pytest.raises(Incomplete):
        server.get(url)
    either.on(path, answers.fixed(b"whole", answers.FRESH))
    assert server.get(url).body == b"whole"


def test_a_client_sees_that_a_body_was_cut(server: Buffy, either: Origin, path: str) -> None:
    for script in (
        answers.truncated(b"half", 10, answers.FRESH),
        answers.truncated_chunks(b"half", answers.FRESH),
    ):
        url = either.on(path, script)
        with pytest.raises(Incomplete):
            server.get(url)
    assert either.hits(path) == 2  # nothing was stored


def test_more_bytes_than_promised_never_reach_the_store(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, [*answers.sized([b"123456789"], answers.FRESH, 5), "close"])
    for _ in range(2):
        assert server.get(url).body == b"12345"


def test_a_kept_alive_connection_that_the_origin_closed(server: Buffy, either: Origin, path: str) -> None:
    """The origin closes after each answer without having said so: no client may notice."""
    url = either.on(path, [*answers.sized([b"x"], {"Cache-Control": "no-store"}), "close"])
    with server.open(url) as connection:
        for _ in range(5):
            server.send(connection, "GET", url)
            assert connection.read().body == b"x"
            time.sleep(0.05)
