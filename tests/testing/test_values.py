"""Values made by hand are what the core takes: its own functions decide over them."""

from __future__ import annotations

import hashlib
import math

import pytest

from buffy_proxy.core import rules
from buffy_proxy.core.fields import first, get_all
from buffy_proxy.core.model import Version
from buffy_proxy.core.strategies import Age, Http, Never
from buffy_proxy.core.versions import name_time
from buffy_proxy.testing import (
    FieldsLike,
    make_fields,
    make_key,
    make_policy,
    make_request,
    make_response,
    make_stored_body,
    make_version,
    posix,
)

NOON = posix("2026-11-25T12:00:00Z")


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ((), ()),
        ({"Vary": "Accept"}, ((b"Vary", b"Accept"),)),
        ([("A", "1"), (b"A", b"\xff")], ((b"A", b"1"), (b"A", b"\xff"))),
        ({"X": "é"}, ((b"X", b"\xe9"),)),
    ],
)
def test_fields(given: FieldsLike, made: object) -> None:
    assert make_fields(given) == made


def test_a_version_of_one_moment() -> None:
    made = make_version(b"12345", at="2026-11-25T12:00:00Z", fields={"ETag": '"a"'})
    times = made.requested_at, made.received_at, made.cached_at, made.validated_at, name_time(made.name)
    assert set(times) == {NOON}
    assert (made.body.digest, made.body.size) == (hashlib.sha256(b"12345").hexdigest(), 5)
    assert made.fields == make_fields(
        {"Date": "Wed, 25 Nov 2026 12:00:00 GMT", "Content-Length": "5", "ETag": '"a"'}
    )
    assert (made.status, made.reason, made.fresh_until, made.refresh_at) == (200, b"OK", math.inf, None)
    assert made.resource_id == make_key().id


def test_every_part_of_a_version_may_be_said() -> None:
    parts = {
        "resource_id": "r",
        "name": "00000000001",
        "status": 404,
        "requested_at": 1.0,
        "received_at": 2.0,
        "cached_at": 3.0,
        "validated_at": 4.0,
        "fresh_until": 5.0,
        "refresh_at": 6.0,
        "pinned_until": 7.0,
    }
    made = make_version(reason="Gone fishing", request_fields={"Accept": "a"}, tags=["t"], **parts)
    assert {name: getattr(made, name) for name in parts} == parts
    assert (made.reason, made.tags) == (b"Gone fishing", frozenset({"t"}))
    assert made.request_fields == ((b"Accept", b"a"),)
    asked = {*parts, "reason", "request_fields", "tags", "fields", "body"}
    assert asked == set(Version.__dataclass_fields__)


def test_fields_that_are_given_are_not_added_again() -> None:
    made = make_version(at=NOON, fields={"date": "Thu, 26 Nov 2026 12:00:00 GMT", "content-length": "99"})
    assert get_all(made.fields, b"Date") == [b"Thu, 26 Nov 2026 12:00:00 GMT"]
    assert get_all(made.fields, b"Content-Length") == [b"99"]


def test_strategies_plan_for_them() -> None:
    made = make_version(at=NOON, fields={"Cache-Control": "max-age=60"})
    assert Http().plan(made, NOON).fresh_until == NOON + 60
    assert Age(10).plan(made, NOON).fresh_until == NOON + 10


@pytest.mark.parametrize(("fresh_until", "decision"), [(NOON + 1, rules.Serve), (NOON - 1, rules.Validate)])
def test_rules_decide_over_them(fresh_until: float, decision: type) -> None:
    request = make_request(fields={"Accept": "text/csv"})
    version = make_version(
        at=NOON - 9, fields={"Vary": "Accept"}, request_fields=request.fields, fresh_until=fresh_until
    )
    made = rules.decide(request, [version], None, make_policy(Never()), NOON)
    assert isinstance(made, decision)


def test_requests_are_as_doors_hand_them_over() -> None:
    made = make_request("HTTP://Example.org:80", method="POST", fields={"A": "b"}, body=b"x", group="g")
    assert (made.url, made.method, made.body, made.group, made.offline) == (
        "http://example.org/",
        "POST",
        b"x",
        "g",
        False,
    )
    with pytest.raises(ValueError, match="no-url"):
        make_request("no-url")


def test_responses() -> None:
    assert make_response(404, fields={"A": "b"}).reason == b"Not Found"
    assert make_response(299).reason == b""
    assert first(make_response(fields={"A": "b"}).fields, b"a") == b"b"
    storable = rules.storability(make_request(), make_response(), make_policy(Never()), make_key(), NOON)
    assert storable == rules.Store()


def test_keys_tell_requests_apart() -> None:
    assert make_key() == make_key()
    keys = {
        make_key(),
        make_key("https://example.org/other"),
        make_key(group="g"),
        make_key(fields={"Authorization": "me"}),
    }
    assert len(keys) == 4


def test_a_body_can_be_read() -> None:
    made = make_stored_body(b"{}", fields={"Content-Type": "application/json"}, at=NOON)
    assert made.read() == b"{}"
    assert made.version == make_version(b"{}", fields={"Content-Type": "application/json"}, at=NOON)
