"""What answers a request: the decision table. Versions came at T; `now` is T + 100.

Each row: why, the request, the versions (newest first), the error beside them, the policy, the decision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from buffy_proxy.core.model import Request, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.rules import (
    Decision,
    Forward,
    Serve,
    Unavailable,
    Validate,
    decide,
    may_serve_stale,
    planned,
)
from buffy_proxy.core.strategies import Age, Http, Never, Renewal, WhenRemoteChanged, WhenRequested
from tests.core.make import HTTP, KEY, NEVER, T, fields, request, version

NOW = T + 100
FRESH = version('ETag: "a"', "Cache-Control: max-age=160", fresh_until=T + 160)
STALE = version('ETag: "a"', "Cache-Control: max-age=50", fresh_until=T + 50)
UNTAGGED = version("Cache-Control: max-age=50", fresh_until=T + 50)
INVALID = version('ETag: "a"', fresh_until=float("-inf"))
STRICT = version("Cache-Control: max-age=50, must-revalidate", fresh_until=T + 50)
LASTING = version("Cache-Control: max-age=160, immutable", fresh_until=T + 160)
PINNED = version("Cache-Control: max-age=50", fresh_until=T + 50, pinned_until=float("inf"), name="1" * 11)
UNPINNED = replace(PINNED, pinned_until=NOW)
GERMAN = version("Vary: Accept-Language", asked=fields("Accept-Language: de"))
GERMAN_PIN = replace(GERMAN, pinned_until=float("inf"))
SIZED = version("Content-Length: 10", fresh_until=T + 50)
STAR = version("Vary: *")
LOST = version("Cache-Control: max-age=160", status=404, fresh_until=T + 160)
BROKEN = version("Cache-Control: max-age=160", status=503, fresh_until=T + 160)
OLD_ERROR = replace(LOST, fresh_until=T + 50)
POSTING = replace(HTTP, methods=frozenset({"GET", "HEAD", "POST"}))
GET = request()
OFFLINE = request(offline=True)

HIT = Serve(FRESH, False, "")
STALE_OK = Serve(STALE, True, "max-stale in the request")
RENEW = Validate(STALE, Renewal.VALIDATE, "stale", "as the origin says: max-age=50")


def asked(reason: str, which: Version = FRESH, renewal: Renewal = Renewal.VALIDATE) -> Validate:
    return Validate(which, renewal, "request", reason)


Row = tuple[str, Request, list[Version], Version | None, Policy, Decision]
TABLE: list[Row] = [
    ("§4 nothing stored", GET, [], None, HTTP, Forward("uri-miss", "nothing is stored")),
    ("§4 fresh", GET, [FRESH], None, HTTP, HIT),
    ("§4 fresh, HEAD", request(method="HEAD"), [FRESH], None, HTTP, HIT),
    ("§4 the newest", GET, [FRESH, STALE], None, HTTP, HIT),
    ("§4 stale", GET, [STALE], None, HTTP, RENEW),
    ("§4 the newest, though an older one is fresh", GET, [STALE, FRESH], None, HTTP, RENEW),
    (
        "§4.2 at the very end of its lifetime",
        GET,
        [replace(STALE, fresh_until=NOW)],
        None,
        HTTP,
        replace(RENEW, version=replace(STALE, fresh_until=NOW)),
    ),
    (
        "§4.3.1 no validator",
        GET,
        [UNTAGGED],
        None,
        HTTP,
        Validate(UNTAGGED, Renewal.REFETCH, "stale", "as the origin says: max-age=50"),
    ),
    (
        "§4.4 invalidated",
        GET,
        [INVALID],
        None,
        HTTP,
        Validate(INVALID, Renewal.VALIDATE, "stale", "invalidated by an unsafe request"),
    ),
    (
        "RFC 9110 §9.3.3 other methods",
        request(method="POST"),
        [FRESH],
        None,
        HTTP,
        Forward("method", "POST is not answered from the store"),
    ),
    ("methods that a rule caches", request(method="POST"), [FRESH], None, POSTING, HIT),
    (
        "RFC 9110 §13.1.2 never with a condition",
        request(method="POST"),
        [STALE],
        None,
        POSTING,
        replace(RENEW, renewal=Renewal.REFETCH),
    ),
    # §4.1
    (
        "§4.1 another variant",
        request("Accept-Language: en"),
        [GERMAN],
        None,
        HTTP,
        Forward("vary-miss", "no stored variant matches"),
    ),
    (
        "§4.1 this variant",
        request("accept-language:  de"),
        [replace(GERMAN, request_fields=()), GERMAN],
        None,
        HTTP,
        Serve(GERMAN, False, ""),
    ),
    ("§4.1 Vary: *", GET, [STAR], None, HTTP, Forward("vary-miss", "no stored variant matches")),
    ("kept whatever it says", GET, [STAR], None, NEVER, Serve(STAR, False, "")),
    # §5.2.1
    ("§5.2.1.1 young enough", request("Cache-Control: max-age=100"), [FRESH], None, HTTP, HIT),
    (
        "§5.2.1.1 too old",
        request("Cache-Control: max-age=99"),
        [FRESH],
        None,
        HTTP,
        asked("older than the request's max-age"),
    ),
    ("§5.2.1.1 invalid", request("Cache-Control: max-age=x"), [FRESH], None, HTTP, HIT),
    (
        "RFC 8246 §2 a reload",
        request("Cache-Control: max-age=0"),
        [LASTING],
        None,
        HTTP,
        Serve(LASTING, False, ""),
    ),
    (
        "RFC 8246 §2 a forced reload",
        request("Cache-Control: no-cache"),
        [LASTING],
        None,
        HTTP,
        asked("no-cache in the request", LASTING, Renewal.REFETCH),
    ),
    ("§5.2.1.2 any staleness", request("Cache-Control: max-stale"), [STALE], None, HTTP, STALE_OK),
    ("§5.2.1.2 enough", request("Cache-Control: max-stale=50"), [STALE], None, HTTP, STALE_OK),
    ("§5.2.1.2 not enough", request("Cache-Control: max-stale=49"), [STALE], None, HTTP, RENEW),
    ("§5.2.1.2 invalid", request("Cache-Control: max-stale=x"), [STALE], None, HTTP, RENEW),
    (
        "§5.2.1.2 with max-age",
        request("Cache-Control: max-stale, max-age=10"),
        [STALE],
        None,
        HTTP,
        RENEW,
    ),
    (
        "§5.2.2.2 must-revalidate",
        request("Cache-Control: max-stale"),
        [STRICT],
        None,
        HTTP,
        Validate(STRICT, Renewal.REFETCH, "stale", "as the origin says: max-age=50"),
    ),
    (
        "§4.4 max-stale does not revive",
        request("Cache-Control: max-stale"),
        [INVALID],
        None,
        HTTP,
        Validate(INVALID, Renewal.VALIDATE, "stale", "invalidated by an unsafe request"),
    ),
    ("§5.2.1.3 fresh for long", request("Cache-Control: min-fresh=60"), [FRESH], None, HTTP, HIT),
    (
        "§5.2.1.3 not for long",
        request("Cache-Control: min-fresh=61"),
        [FRESH],
        None,
        HTTP,
        asked("not fresh for the request's min-fresh"),
    ),
    (
        "§5.2.1.4 no-cache",
        request("Cache-Control: no-cache"),
        [FRESH],
        None,
        HTTP,
        asked("no-cache in the request"),
    ),
    ("§5.2.1.5 no-store does not forbid", request("Cache-Control: no-store"), [FRESH], None, HTTP, HIT),
    ("§5.2.1.7 fresh", request("Cache-Control: only-if-cached"), [FRESH], None, HTTP, HIT),
    (
        "§5.2.1.7 nothing",
        request("Cache-Control: only-if-cached"),
        [],
        None,
        HTTP,
        Unavailable("only-if-cached, and nothing is stored"),
    ),
    (
        "§5.2.1.7 stale",
        request("Cache-Control: only-if-cached"),
        [STALE],
        None,
        HTTP,
        Unavailable("only-if-cached, and the stored version is not usable without validation"),
    ),
    (
        "§5.2.1.7 stale, but kept on demand",
        request("Cache-Control: only-if-cached"),
        [STALE],
        None,
        NEVER,
        Serve(STALE, True, "only-if-cached in the request"),
    ),
    (
        "§5.4 Pragma",
        request("Pragma: no-cache"),
        [FRESH],
        None,
        HTTP,
        asked("Pragma: no-cache in the request"),
    ),
    (
        "§5.4 not beside Cache-Control",
        request("Pragma: no-cache", "Cache-Control: max-age=100"),
        [FRESH],
        None,
        HTTP,
        HIT,
    ),
    ("directives count for http only", request("Cache-Control: no-cache"), [FRESH], None, NEVER, HIT),
    # conditions and ranges
    ("RFC 9110 §13.1.1 holds", request('If-Match: "a"'), [FRESH], None, HTTP, HIT),
    (
        "RFC 9110 §13.1.1 perhaps newer",
        request('If-Match: "b"'),
        [FRESH],
        None,
        HTTP,
        asked("If-Match differs"),
    ),
    ("RFC 9110 §13.1.1 kept on demand", request('If-Match: "b"'), [FRESH], None, NEVER, HIT),
    ("RFC 9110 §14.2 from the whole", request("Range: bytes=0-1"), [FRESH], None, HTTP, HIT),
    (
        "§3.3 a part of what is not stored",
        request("Range: bytes=0-1"),
        [],
        None,
        HTTP,
        Forward("partial", "nothing is stored; the request for a part goes out as it is"),
    ),
    (
        "RFC 9110 §14.2 HEAD has no parts",
        request("Range: bytes=0-1", method="HEAD"),
        [],
        None,
        HTTP,
        Forward("uri-miss", "nothing is stored"),
    ),
    # pins
    ("a pin answers", GET, [FRESH, PINNED], None, HTTP, Serve(PINNED, True, "pinned")),
    (
        "whatever the client wants",
        request("Cache-Control: no-cache"),
        [PINNED],
        None,
        HTTP,
        Serve(PINNED, True, "pinned"),
    ),
    (
        "the newest pin",
        GET,
        [replace(PINNED, name="2"), PINNED],
        None,
        HTTP,
        Serve(replace(PINNED, name="2"), True, "pinned"),
    ),
    (
        "a pin of this variant",
        request("Accept-Language: en"),
        [GERMAN_PIN],
        None,
        HTTP,
        Forward("vary-miss", "no stored variant matches"),
    ),
    ("an expired pin does not", GET, [FRESH, UNPINNED], None, HTTP, HIT),
    # offline
    ("offline, fresh", OFFLINE, [FRESH], None, HTTP, Serve(FRESH, False, "offline")),
    ("offline, stale", OFFLINE, [STRICT], None, HTTP, Serve(STRICT, True, "offline")),
    ("offline, invalid", OFFLINE, [INVALID], None, HTTP, Serve(INVALID, True, "offline")),
    ("offline, nothing", OFFLINE, [], None, HTTP, Unavailable("offline, and nothing is stored")),
    (
        "offline, another variant",
        OFFLINE,
        [GERMAN],
        None,
        HTTP,
        Unavailable("offline, and no stored variant matches"),
    ),
    ("offline, an error", OFFLINE, [], LOST, HTTP, Serve(LOST, False, "stored error 404")),
    ("offline, an old error", OFFLINE, [], OLD_ERROR, HTTP, Unavailable("offline, and nothing is stored")),
    (
        "offline, a part of nothing",
        request("Range: bytes=0-1", offline=True),
        [],
        None,
        HTTP,
        Unavailable("offline, and nothing is stored"),
    ),
    (
        "offline, other methods",
        request(method="POST", offline=True),
        [FRESH],
        None,
        HTTP,
        Unavailable("offline, and POST is not answered from the store"),
    ),
    # errors beside the versions
    ("§4 a fresh error", GET, [], LOST, HTTP, Serve(LOST, False, "stored error 404")),
    ("§4 a stale error", GET, [], OLD_ERROR, HTTP, Forward("uri-miss", "nothing is stored")),
    ("§4 a fresh version first", GET, [FRESH], LOST, HTTP, HIT),
    (
        "§4 a fresh 404 before a stale version",
        GET,
        [STALE],
        LOST,
        HTTP,
        Serve(LOST, False, "stored error 404"),
    ),
    (
        "§4.2.4 a stale version before a fresh 503",
        GET,
        [STALE],
        BROKEN,
        HTTP,
        Serve(STALE, True, "origin answered 503"),
    ),
    ("§5.2.2.2 unless forbidden", GET, [STRICT], BROKEN, HTTP, Serve(BROKEN, False, "stored error 503")),
    (
        "§5.2.1.4 no-cache asks again",
        request("Cache-Control: no-cache"),
        [],
        LOST,
        HTTP,
        Forward("uri-miss", "nothing is stored"),
    ),
    (
        "the strategy asks anew",
        GET,
        [],
        LOST,
        Policy(WhenRequested()),
        Forward("uri-miss", "nothing is stored"),
    ),
    ("the strategy's patience", GET, [], LOST, Policy(Age(100)), Forward("uri-miss", "nothing is stored")),
    ("the strategy still waits", GET, [], LOST, Policy(Age(101)), Serve(LOST, False, "stored error 404")),
    (
        "§4.1 an error of another variant",
        request("Accept: b"),
        [],
        version("Vary: Accept", status=404, asked=fields("Accept: a")),
        HTTP,
        Forward("uri-miss", "nothing is stored"),
    ),
    # strategies
    (
        "when_requested never answers by itself",
        GET,
        [replace(FRESH, fresh_until=T)],
        None,
        Policy(WhenRequested()),
        Validate(
            replace(FRESH, fresh_until=T), Renewal.REFETCH, "stale", "re-fetched whenever it is requested"
        ),
    ),
    (
        "when_remote_changed compares sizes",
        GET,
        [SIZED],
        None,
        Policy(WhenRemoteChanged(50)),
        Validate(SIZED, Renewal.COMPARE_SIZE, "stale", "checked for changes at most every 50 s"),
    ),
]


@pytest.mark.parametrize(
    ("why", "asked_for", "versions", "error", "rule", "decision"), TABLE, ids=[row[0] for row in TABLE]
)
def test_decide(
    why: str,
    asked_for: Request,
    versions: list[Version],
    error: Version | None,
    rule: Policy,
    decision: Decision,
) -> None:
    assert decide(asked_for, versions, error, rule, NOW) == decision


STALENESS: list[tuple[str, Version, Policy, dict[str, Any], bool]] = [
    ("§4.2.4 as Buffy promises", STALE, HTTP, {}, True),
    ("§4.4 invalidated", INVALID, HTTP, {}, True),
    ("§5.2.2.2 must-revalidate", STRICT, HTTP, {}, False),
    ("§5.2.2.8 proxy-revalidate", version("Cache-Control: proxy-revalidate", fresh_until=T), HTTP, {}, False),
    ("§5.2.2.10 s-maxage", version("Cache-Control: s-maxage=1", fresh_until=T), HTTP, {}, False),
    ("§5.2.2.4 no-cache", version("Cache-Control: no-cache", fresh_until=T), HTTP, {}, False),
    ("§5.2.2.2 only once stale", replace(STRICT, fresh_until=T + 999), HTTP, {}, True),
    ("§5.2.2.4 fresh or not", version("Cache-Control: no-cache"), HTTP, {}, False),
    ("the user's strategy", STRICT, NEVER, {}, True),
    ("a pin", replace(STRICT, pinned_until=float("inf")), HTTP, {}, True),
    ("a pin that expired", replace(STRICT, pinned_until=T), HTTP, {}, False),
    ("offline", STRICT, HTTP, {"offline": True}, True),
]


@pytest.mark.parametrize(
    ("why", "stored", "rule", "more", "allowed"), STALENESS, ids=[row[0] for row in STALENESS]
)
def test_may_serve_stale(
    why: str, stored: Version, rule: Policy, more: dict[str, Any], allowed: bool
) -> None:
    assert may_serve_stale(request(**more), stored, rule, NOW) is allowed


def test_planned_takes_the_strategys_figures() -> None:
    made = planned(STALE, Policy(Age(10)), KEY, NOW)
    assert (made.fresh_until, made.refresh_at) == (T + 10, T + 10)
    made = planned(version("Cache-Control: max-age=60", "Age: 5"), Policy(Http()), KEY, NOW)
    assert (made.fresh_until, made.refresh_at) == (T + 55, None)
    assert planned(STALE, Policy(Never()), KEY, NOW).fresh_until == float("inf")


def test_partitioned_resources_are_not_renewed_in_the_background() -> None:
    for change in ({"partition": "p"}, {"body_digest": "b"}, {"url": "http://a/x?token=~0123abcd"}):
        key = replace(KEY, **change)
        assert planned(STALE, Policy(Age(10)), key, NOW).refresh_at is None
        assert planned(STALE, Policy(Age(10)), key, NOW, repeatable=True).refresh_at is not None
    made = planned(STALE, Policy(Age(10)), replace(KEY, partition="p"), NOW)
    assert (made.fresh_until, made.refresh_at) == (T + 10, None)
