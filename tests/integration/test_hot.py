"""Hits that are said again: whatever changes, by whichever process, is seen by the next request."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

import pytest

from buffy_proxy.selectors import Selectors
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import Reply, connect, request_bytes

CONFIG = '[[rule]]\nmatch = "**/kept**"\nstrategy = "never"\n'


@pytest.fixture
def made(origin: Origin, request: pytest.FixtureRequest) -> tuple[str, answers.Changing]:
    """A URL of its own for each test, and what is there."""
    resource = answers.Changing(b"one")
    path = f"/kept/{request.node.name}"
    origin.on(path, resource)
    return origin.url(path), resource


def hot(server: Buffy, url: str) -> Reply:
    """Asks often enough that the answer is one that was said before."""
    replies = [server.get(url) for _ in range(4)]
    assert replies[-1].cache.hit and replies[-2].body == replies[-1].body
    return replies[-1]


def cli(server: Buffy, *words: str) -> str:
    options = ["--data-dir", str(server.data_dir), "--config", str(server.config_file)]
    run = subprocess.run(
        [sys.executable, "-m", "buffy_proxy", *words, *options], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def api(server: Buffy, method: str, path: str, body: Any) -> Any:
    host, port = server.api
    asked = urllib.request.Request(f"http://{host}:{port}{path}", json.dumps(body).encode(), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=30) as answer:
        return json.loads(answer.read())


Made = tuple[str, answers.Changing]


def test_purged_by_another_process(server: Buffy, made: Made) -> None:
    url, resource = made
    hot(server, url)
    resource.body = b"two"
    cli(server, "purge", "-y", url)
    reply = server.get(url)
    assert reply.body == b"two" and not reply.cache.hit


def test_a_pin_of_another_process(server: Buffy, made: Made) -> None:
    """An older version that is pinned answers from then on, and no longer once it is not."""
    url, resource = made
    hot(server, url)
    first = json.loads(cli(server, "show", "--json", url))[0]["versions"][0]["name"]
    resource.body = b"two"
    cli(server, "refresh", url)
    deadline = time.monotonic() + 15
    while server.get(url).body != b"two" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hot(server, url).body == b"two"
    cli(server, "pin", url, "--version", first)
    assert hot(server, url).body == b"one"
    cli(server, "unpin", url, "--version", first)
    assert hot(server, url).body == b"two"


def test_a_policy_of_the_api(server: Buffy, made: Made) -> None:
    url, resource = made
    hot(server, url)
    config = {"recaching_strategy": {"strategy_name": "when_requested"}}
    api(server, "PUT", "/v1/request/", {"url": url, "cache_configuration": config})
    resource.body = b"two"
    deadline = time.monotonic() + 10
    while server.get(url).body != b"two" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.get(url).body == b"two"


def test_an_unsafe_request_invalidates(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=600"})
    origin.on("/unsafe", resource)
    url = origin.url("/unsafe")
    assert hot(server, url).body == b"one"
    resource.body = b"two"
    server.request("POST", url, [("Content-Length", "0")])
    assert server.get(url).body == b"two"


def test_it_gets_older_and_stale(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=3"})
    origin.on("/short", resource)
    url = origin.url("/short")
    ages = set()
    hot(server, url)
    deadline = time.monotonic() + 6
    while (reply := server.get(url)).cache.hit and time.monotonic() < deadline:
        ages.add(int(reply.get("age") or 0))
        assert int(reply.cache.params["ttl"]) + int(reply.get("age") or 0) in (2, 3)
        time.sleep(0.1)
    assert not reply.cache.hit and len(ages) >= 2


@pytest.mark.parametrize("user", ["group=a@", "group=b@", "mode=offline@"])
def test_sessions_do_not_mix(server: Buffy, made: Made, user: str) -> None:
    url, _ = made
    hot(server, url)
    reply = server.get(url, user=user.rstrip("@"))
    assert reply.cache.hit is (user == "mode=offline@")


def test_credentials_do_not_mix(server: Buffy, made: Made) -> None:
    url, _ = made
    for value in ("Bearer a", "Bearer b"):
        fields = [("Authorization", value)]
        assert not server.get(url, fields).cache.hit
        assert server.get(url, fields).cache.hit and server.get(url, fields).cache.hit
    assert not server.get(url).cache.hit


def test_counts_and_lines_are_those_of_any_hit(server: Buffy, made: Made) -> None:
    url, _ = made
    hot(server, url)

    def lines() -> list[str]:
        return [line for line in server.log().splitlines() if url in line]

    deadline = time.monotonic() + 5
    while len(lines()) < 4 and time.monotonic() < deadline:  # they are written a moment after the answer
        time.sleep(0.02)
    assert len(lines()) == 4 and all(" 200 3 buffy; " in line for line in lines())


def test_a_client_that_asks_and_does_not_read(server: Buffy, origin: Origin) -> None:
    """It is not heard until it takes what it asked for: answers do not pile up in memory. Others are served,
    and in the end it gets all."""
    origin.on("/kept/flood", answers.fixed(b"x" * 60_000))
    url = origin.url("/kept/flood")
    hot(server, url)
    with server.open(url) as connection:
        request = request_bytes("GET", url, origin.authority)
        connection.send(request)
        connection.read()
        before = server.memory()
        connection.sock.settimeout(1.0)
        asked = sent = 0
        try:
            while asked < 20_000:
                sent += connection.sock.send(request)  # each comes alone, as far as the network lets it
                asked += 1
        except TimeoutError:
            pass
        asked = sent // len(request)
        assert asked > 100
        assert server.memory() - before < 40 << 20
        assert server.get(url).cache.hit
        connection.sock.settimeout(30)
        for _ in range(min(asked, 300)):
            assert connection.read().body == b"x" * 60_000


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_without_content_is_stored(
    server: Buffy, origin: Origin, tls_origin: Origin, scheme: str
) -> None:
    either = origin if scheme == "http" else tls_origin
    either.on("/kept/none", answers.fixed(b"", {"X-Kind": "none"}, status=204))
    url = either.url("/kept/none")
    replies = [server.get(url) for _ in range(3)]
    assert [reply.status for reply in replies] == [204] * 3
    assert not replies[0].cache.hit and replies[-1].cache.hit


def test_nothing_outside_a_tunnel_passes_for_something_inside(
    server: Buffy, tls_origin: Origin, path: str
) -> None:
    """What is remembered for a tunnel bears the tunnel's name; who sends that name as bytes gets nothing."""
    url = tls_origin.on(path, answers.fixed(b"inside", answers.FRESH))
    hot(server, url)
    request = request_bytes("GET", path, tls_origin.authority)
    with connect(server.proxy) as connection:
        connection.send(f"https://{tls_origin.authority} {Selectors()!r} ".encode() + request)
        assert connection.head().status == 400
