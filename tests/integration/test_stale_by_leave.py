"""Stale answers that the origin allows (RFC 5861) and targeted fields (RFC 9213), through the real server."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until

AGED = {"Cache-Control": "max-age=10, stale-while-revalidate=600", "Age": "20"}
"""Stale at once, and for the next ten minutes good enough while the origin is asked."""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_client_is_answered_and_the_origin_asked_behind(
    server: Buffy, origin: Origin, path: str, method: str
) -> None:
    resource = answers.Changing(b"one", AGED)
    url = origin.on(path, resource)
    server.get(url)
    resource.fields = {"Cache-Control": "max-age=600"}
    reply = server.request(method, url)
    assert (reply.status, reply.cache.hit, reply.cache.detail) == (200, True, "stale-while-revalidate")
    wait_until(lambda: server.request(method, url).status == 200 and origin.hits(path) > 1)
    validation = origin.seen(path)[1]
    assert (validation.method, validation.get("if-none-match")) == ("GET", resource.etag)
    wait_until(lambda: int(server.get(url).cache.params["ttl"]) > 500)
    assert origin.hits(path) == 2


def test_a_new_representation_replaces_the_stale_one(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", AGED)
    url = origin.on(path, resource)
    server.get(url)
    resource.body, resource.fields = b"two", {"Cache-Control": "max-age=600"}
    assert server.get(url).body == b"one"
    wait_until(lambda: server.get(url).body == b"two")
    assert origin.hits(path) == 2


def test_many_stale_answers_are_one_request_to_the_origin(server: Buffy, origin: Origin, path: str) -> None:
    resource, gate = answers.Changing(b"one", AGED), threading.Event()
    url = origin.on(path, resource)
    server.get(url)
    origin.on(path, [gate, answers.head(304, {"ETag": resource.etag, **answers.FRESH})])
    replies = [server.get(url) for _ in range(5)]  # none waits for the origin, which waits for the gate
    gate.set()
    assert all(reply.cache.hit and reply.body == b"one" for reply in replies)
    wait_until(lambda: server.get(url).cache.detail == "")
    assert origin.hits(path) == 2


def test_an_origin_that_fails_behind_changes_nothing(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", AGED)
    url = origin.on(path, resource)
    server.get(url)
    resource.status = 503
    wait_until(lambda: server.get(url).body == b"one" and origin.hits(path) > 1)
    origin.seen(path)[1].done.wait(10)
    reply = server.get(url)
    assert (reply.status, reply.body) == (200, b"one")


@pytest.mark.parametrize("forbids", ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=10"])
def test_never_where_stale_answers_are_forbidden(
    server: Buffy, origin: Origin, path: str, forbids: str
) -> None:
    fields = {"Cache-Control": f"max-age=10, stale-while-revalidate=600, {forbids}", "Age": "20"}
    resource = answers.Changing(b"one", fields)
    url = origin.on(path, resource)
    server.get(url)
    resource.body = b"two"
    assert server.get(url).body == b"two"


def test_no_longer_than_the_origin_says(server: Buffy, origin: Origin, path: str) -> None:
    fields = {"Cache-Control": "max-age=10, stale-while-revalidate=5", "Age": "20"}
    resource = answers.Changing(b"one", fields)
    url = origin.on(path, resource)
    server.get(url)
    resource.body = b"two"
    assert server.get(url).body == b"two"


# -- strict -------------------------------------------------------------------------------------------------

STRICT = "[http]\nstrict = true\n"
ERRORS = [
    ("§4 not allowed", "max-age=10", [], 503),
    ("§4 allowed", "max-age=10, stale-if-error=600", [], 200),
    ("§4 allowed by the request", "max-age=10", [("Cache-Control", "stale-if-error=600")], 200),
    ("§4 for so long only", "max-age=10, stale-if-error=5", [], 503),
    ("§4 must-revalidate", "max-age=10, stale-if-error=600, must-revalidate", [], 503),
]


@pytest.mark.parametrize(("clause", "said", "asked", "status"), ERRORS, ids=[row[0] for row in ERRORS])
def test_strict_needs_leave_rfc5861(
    buffy: Factory,
    origin: Origin,
    path: str,
    clause: str,
    said: str,
    asked: list[tuple[str, str]],
    status: int,
) -> None:
    strict = buffy(config=STRICT)
    resource = answers.Changing(b"one", {"Cache-Control": said, "Age": "20"})
    url = origin.on(path, resource)
    strict.get(url)
    resource.status = 503
    reply = strict.get(url, asked)
    assert reply.status == status
    assert (reply.body == b"one") == (status == 200)


# -- targeted fields ----------------------------------------------------------------------------------------


def test_the_targeted_field_counts_and_others_still_get_both(
    server: Buffy, origin: Origin, path: str
) -> None:
    fields = {"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=600"}
    url = origin.on(path, answers.fixed(b"x", fields))
    replies = [server.get(url) for _ in range(2)]
    assert [reply.cache.hit for reply in replies] == [False, True]
    for reply in replies:
        assert reply.all("cache-control") == ["no-store"]
        assert reply.all("cdn-cache-control") == ["max-age=600"]


def test_the_target_list_is_a_setting(buffy: Factory, origin: Origin, path: str) -> None:
    own = buffy(config='[http]\ntargets = ["Buffy-Cache-Control"]\n')
    fields = {"CDN-Cache-Control": "no-store", "Buffy-Cache-Control": "max-age=600"}
    url = origin.on(path, answers.fixed(b"x", fields))
    assert [own.get(url).cache.hit for _ in range(2)] == [False, True]


def test_named_fields_stay_with_the_one_who_asked(server: Buffy, origin: Origin, path: str) -> None:
    fields = {"Cache-Control": 'max-age=600, private="X-User"', "X-User": "alice", "X-All": "1"}
    url = origin.on(path, answers.fixed(b"x", fields))
    first, second = server.get(url), server.get(url)
    assert first.get("x-user") == "alice"
    assert (second.cache.hit, second.get("x-user"), second.get("x-all")) == (True, None, "1")
