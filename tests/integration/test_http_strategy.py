"""Traffic that no rule matches follows the origin's own headers (RFC 9111)."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin


def test_fresh_is_served_without_asking(server: Buffy, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"x", answers.FRESH))
    server.get(url)
    connections = tls_origin.connections
    assert server.get(url).cache.hit
    assert tls_origin.hits(path) == 1
    assert tls_origin.connections == connections  # not even a TLS handshake


@pytest.mark.parametrize(
    "fields",
    [
        {"Cache-Control": "no-store"},
        {"Cache-Control": "private, max-age=60"},
        {"Cache-Control": "max-age=60", "Vary": "*"},
        {"Cache-Control": "max-age=0"},
        {"Cache-Control": "no-cache"},
        {"Expires": "0"},
        {"Expires": "not a date at all"},
    ],
)
def test_what_the_origin_does_not_allow_is_not_reused(
    server: Buffy, origin: Origin, path: str, fields: dict[str, str]
) -> None:
    url = origin.on(path, answers.fixed(b"x", fields))
    assert [server.get(url).cache.hit for _ in range(2)] == [False, False]
    assert origin.hits(path) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"Cache-Control": "s-maxage=60, max-age=0"},
        {"Cache-Control": "public, max-age=60"},
        {"Expires": formatdate(time.time() + 3600, usegmt=True)},
        {"Last-Modified": formatdate(time.time() - 30 * 86400, usegmt=True)},  # heuristic, RFC 9111 §4.2.2
        {"cache-control": 'MAX-AGE="60"'},
    ],
)
def test_what_the_origin_allows_is_reused(
    server: Buffy, origin: Origin, path: str, fields: dict[str, str]
) -> None:
    url = origin.on(path, answers.fixed(b"x", fields))
    assert [server.get(url).cache.hit for _ in range(2)] == [False, True]


def test_the_origins_age_counts(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"x", {"Cache-Control": "max-age=100", "Age": "40"}))
    server.get(url)
    reply = server.get(url)
    assert 40 <= int(reply.get("age") or 0) < 50
    assert 50 < int(reply.cache.params["ttl"]) <= 60


@pytest.mark.parametrize("validators", ["etag", "date"])
def test_a_stale_version_is_validated(server: Buffy, origin: Origin, path: str, validators: str) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=2"}, validators)
    url = origin.on(path, resource)
    server.get(url)
    time.sleep(3.1)
    resource.extra = {"X-Fresh": "yes"}
    reply = server.get(url)
    assert (reply.status, reply.body) == (200, b"one")
    assert reply.cache.fwd == "stale" or reply.cache.hit
    asked = origin.seen(path)[-1]
    assert asked.get("if-none-match" if validators == "etag" else "if-modified-since")
    assert server.get(url).get("x-fresh") == "yes"  # freshened by the 304 (RFC 9111 §3.2)
    assert origin.hits(path) == 2


def test_a_changed_resource_is_a_new_version(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", answers.STALE)
    url = origin.on(path, resource)
    assert server.get(url).body == b"one"
    resource.body = b"two!"
    assert server.get(url).body == b"two!"


def test_vary_keeps_variants_apart(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request, peer):  # type: ignore[no-untyped-def]
        body = (request.get("accept-language") or "none").encode()
        await answers.fixed(body, {**answers.FRESH, "Vary": "Accept-Language"})(request, peer)

    url = origin.on(path, script)
    for language in ("de", "en", "de", "en"):
        assert server.get(url, [("Accept-Language", language)]).body == language.encode()
    assert origin.hits(path) == 2
    assert server.get(url).cache.fwd == "vary-miss"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_an_unsafe_method_invalidates(server: Buffy, origin: Origin, path: str, method: str) -> None:
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))
    server.get(url)
    assert server.get(url).cache.hit
    server.request(method, url, body=b"change")
    assert not server.get(url).cache.hit
    assert server.get(url).cache.hit


def test_a_failed_unsafe_method_does_not_invalidate(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request, peer):  # type: ignore[no-untyped-def]
        status = 500 if request.method == "POST" else 200
        await answers.fixed(b"x", answers.FRESH, status)(request, peer)

    url = origin.on(path, script)
    server.get(url)
    server.request("POST", url, body=b"change")
    assert server.get(url).cache.hit


@pytest.mark.parametrize("wish", ["no-cache", "max-age=0"])
def test_a_client_may_insist_on_the_origin(server: Buffy, origin: Origin, path: str, wish: str) -> None:
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))
    server.get(url)
    reply = server.get(url, [("Cache-Control", wish)])
    assert reply.cache.fwd == "request"
    assert origin.hits(path) == 2


def test_only_if_cached(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))
    assert server.get(url, [("Cache-Control", "only-if-cached")]).status == 504
    assert origin.hits(path) == 0
    server.get(url)
    assert server.get(url, [("Cache-Control", "only-if-cached")]).cache.hit


def test_a_redirect_is_stored_where_allowed(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.redirect("/target", 301, answers.FRESH))
    server.get(url)
    reply = server.get(url)
    assert reply.cache.hit and (reply.status, reply.get("location")) == (301, "/target")


def test_a_fresh_error_is_reused_for_that_long(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"gone", {"Cache-Control": "max-age=2"}, 404))
    assert server.get(url).status == 404
    again = server.get(url)
    assert again.cache.hit and (again.status, again.body) == (404, b"gone")
    time.sleep(3.1)
    assert not server.get(url).cache.hit


def test_an_empty_body_is_stored(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"", answers.FRESH))
    server.get(url)
    reply = server.get(url)
    assert reply.cache.hit and reply.body == b"" and reply.get("content-length") == "0"


def test_a_post_is_never_answered_from_the_store(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))
    for _ in range(2):
        assert not server.request("POST", url, body=b"same").cache.hit
    assert origin.hits(path) == 2
