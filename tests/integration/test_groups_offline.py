"""Session selectors in the proxy user name: groups are sandboxes, offline never opens a connection."""

from __future__ import annotations

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy, selectors
from tests.support.origin import Origin
from tests.support.wire import Refused


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


def test_a_group_is_a_sandbox(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x", answers.FRESH))
    for user in (None, "group=one", "group=two"):
        assert not server.get(url, user=user).cache.hit
        assert server.get(url, user=user).cache.hit
    assert either.hits(path) == 3


@pytest.mark.parametrize("user", ["group=curls", selectors("group=curls"), "group%3Dcurls"])
def test_curl_may_write_them_raw_or_percent_encoded(
    server: Buffy, either: Origin, path: str, user: str
) -> None:
    url = either.on(path, answers.fixed(b"x", answers.FRESH))
    assert not server.get(url, user="group=curls").cache.hit
    assert server.curl_reply(url, user=user).cache.hit
    assert server.curl_reply(url, user=f"{user}+mode=offline").cache.hit
    assert not server.curl_reply(url).cache.hit


def test_offline_answers_from_the_store_stale_or_not(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.Changing(b"x", answers.STALE))
    server.get(url)
    before = either.connections
    reply = server.get(url, user="mode=offline")
    assert (reply.status, reply.body) == (200, b"x")
    assert reply.cache.hit and reply.cache.detail
    assert (either.connections, either.hits(path)) == (before, 1)


def test_offline_misses_are_504_without_a_connection(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x"))
    before = either.connections
    reply = server.get(url, user="mode=offline")
    assert reply.status == 504 and b"offline" in reply.body.lower()
    assert either.connections == before


def test_offline_within_a_group(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x", answers.FRESH))
    server.get(url, user="group=g1")
    assert server.get(url, user="group=g1+mode=offline").cache.hit
    assert server.get(url, user="mode=offline+group=g1").cache.hit
    assert server.get(url, user="mode=offline").status == 504
    assert server.get(url, user="group=g2+mode=offline").status == 504


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_offline_sends_nothing(server: Buffy, either: Origin, path: str, method: str) -> None:
    url = either.on(path, answers.echo)
    before = either.connections
    assert server.request(method, url, body=b"x", user="mode=offline").status == 504
    assert either.connections == before


def test_offline_tunnels_are_refused(server: Buffy, tls_origin: Origin) -> None:
    before = tls_origin.connections
    reply = server.get(tls_origin.url("/never-seen"), user="mode=offline")
    assert reply.status == 504 and tls_origin.connections == before


@pytest.mark.parametrize("user", ["group=", "mode=sideways", "colour=red", "group=a/b"])
def test_selectors_that_mean_nothing_get_a_clear_answer(
    server: Buffy, either: Origin, path: str, user: str
) -> None:
    url = either.on(path, answers.fixed(b"x"))
    try:
        reply = server.get(url, user=user)
    except Refused as refused:
        reply = refused.reply
    assert 400 <= reply.status < 500
    assert user.partition("=")[0].encode() in reply.body
    assert either.hits(path) == 0


def test_a_server_that_is_offline_altogether(buffy: Factory, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x", answers.STALE))
    server = buffy()
    server.get(url)
    server.stop()
    server.args = ["--offline"]
    server.start()
    before = either.connections
    assert server.get(url).body == b"x"
    assert server.get(either.url(path + "/other")).status == 504
    assert either.connections == before
