"""Those who wait for another client's request get its content, not its cookies."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import Reply

CLIENTS = 4


def together(server: Buffy, origin: Origin, path: str, lines: dict[str, str], asked: str = "") -> list[Reply]:
    """All ask while the origin holds the head back, so one request is for all; their heads, leader first."""
    gate = threading.Event()
    head = answers.head(200, {"Content-Length": "2", **answers.FRESH, **lines})
    url = origin.on(path, [gate, head, b"ok"])
    fields = [("Cookie", asked)] if asked else []
    with ThreadPoolExecutor(CLIENTS) as pool:
        first = pool.submit(server.get, url, fields)
        origin.wait(path)
        others = [pool.submit(server.get, url, fields) for _ in range(CLIENTS - 1)]
        threading.Timer(0.7, gate.set).start()
        replies = [one.result(30) for one in (first, *others)]
    assert [reply.body for reply in replies] == [b"ok"] * CLIENTS
    assert origin.hits(path) == 1
    return replies


@pytest.mark.parametrize("name", ["Set-Cookie", "Set-Cookie2"])
def test_the_cookie_is_for_the_one_who_asked(server: Buffy, origin: Origin, path: str, name: str) -> None:
    leader, *followers = together(server, origin, path, {name: "session=leader"})
    assert leader.all(name) == ["session=leader"]
    assert any(reply.cache.collapsed for reply in followers)
    assert [reply.all(name) for reply in followers] == [[]] * len(followers)


def test_the_same_credentials_are_the_same_client(server: Buffy, origin: Origin, path: str) -> None:
    lines = {"Set-Cookie": "session=renewed", "Cache-Control": "public, max-age=60"}
    replies = together(server, origin, path, lines, asked="session=old")
    assert any(reply.cache.collapsed for reply in replies)
    assert [reply.all("set-cookie") for reply in replies] == [["session=renewed"]] * CLIENTS


def test_fields_that_the_origin_reserves_stay_with_the_one_who_asked(
    server: Buffy, origin: Origin, path: str
) -> None:
    lines = {"Cache-Control": 'max-age=60, private="X-User"', "X-User": "leader", "X-All": "1"}
    leader, *followers = together(server, origin, path, lines)
    assert leader.all("x-user") == ["leader"]
    assert any(reply.cache.collapsed for reply in followers)
    assert [(reply.all("x-user"), reply.all("x-all")) for reply in followers] == [([], ["1"])] * 3
