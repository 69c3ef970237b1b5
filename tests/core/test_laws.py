"""Laws of the core over random responses, requests and clocks."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from buffy_proxy.core.conditional import byte_range, freshen
from buffy_proxy.core.fields import directives, first, get_all, vary_names
from buffy_proxy.core.model import Request, Response, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.rules import (
    DoNotStore,
    Forward,
    Serve,
    Unavailable,
    Unsatisfiable,
    Validate,
    current_age,
    decide,
    freshness_lifetime,
    planned,
    storability,
)
from buffy_proxy.core.strategies import Age, Never, Renewal, Strategy, WhenRemoteChanged, WhenRequested
from tests.core.make import HTTP, KEY, T, date, fields, request, version

SECONDS = st.sampled_from(["0", "1", "60", "9999999999", "-1", "x", '"7"', ""])
CC = st.lists(
    st.sampled_from(["no-store", "no-cache", "private", "public", "must-revalidate", "s-maxage", "max-age"])
    | st.builds("{}={}".format, st.sampled_from(["max-age", "s-maxage", "min-fresh", "max-stale"]), SECONDS)
    | st.sampled_from(["must-understand", "only-if-cached", "immutable", "MAX-AGE=5", ",", '"', "x=y"]),
    max_size=4,
).map(", ".join)
DATES = st.floats(-1e5, 1e5).map(lambda offset: date(T + offset)) | st.sampled_from(["0", "", "x"])
LINES = st.lists(
    st.one_of(
        st.builds("Cache-Control: {}".format, CC),
        st.builds("{}: {}".format, st.sampled_from(["Date", "Expires", "Last-Modified"]), DATES),
        st.builds("Age: {}".format, SECONDS),
        st.sampled_from(['ETag: "a"', 'ETag: W/"b"', "Vary: A", "Vary: B, a", "Vary: *", "Connection: X-A"]),
        st.sampled_from(["X-A: 1", "Set-Cookie: a=1", "Content-Type: text/plain", "Content-Length: 10"]),
    ),
    max_size=6,
)
STATUS = st.sampled_from([103, 200, 203, 204, 206, 299, 301, 302, 304, 404, 416, 500, 503])
ASKED = st.lists(
    st.one_of(
        st.builds("Cache-Control: {}".format, CC),
        st.sampled_from(["Pragma: no-cache", "Range: bytes=1-2", 'If-Match: "b"', 'If-None-Match: "a"']),
        st.sampled_from(["A: 1", "A: 2", "B: 1", "Authorization: x"]),
    ),
    max_size=4,
)
REQUESTS = st.builds(
    lambda lines, method, offline: request(*lines, method=method, offline=offline),
    ASKED,
    st.sampled_from(["GET", "GET", "HEAD", "POST"]),
    st.booleans(),
)
CLOCK = st.floats(T - 1e6, T + 1e8)
VERSIONS = st.builds(
    lambda lines, status, asked, delay, until: version(
        *lines, status=status, asked=fields(*asked), requested_at=T - delay, fresh_until=T + until
    ),
    LINES,
    st.sampled_from([200, 200, 203, 301, 404]),
    ASKED,
    st.floats(-10, 100),
    st.floats(-1e6, 1e8),
)
OTHERS: list[Strategy] = [Never(), Age(), WhenRequested(), WhenRemoteChanged()]
POLICIES = st.sampled_from([HTTP, *(Policy(s) for s in OTHERS)])


@given(VERSIONS, CLOCK, CLOCK)
def test_age_never_falls_as_now_rises(stored: Version, a: float, b: float) -> None:
    early, late = sorted((a, b))
    assert 0 <= current_age(stored, early) <= current_age(stored, late)


@given(ASKED, STATUS, LINES, CC)
def test_nothing_with_no_store_is_stored_under_http(
    asked: list[str], status: int, lines: list[str], said: str
) -> None:
    forbidden = ("Cache-Control: no-store", *lines, f"Cache-Control: {said}")
    assume("must-understand" not in directives(fields(*forbidden)))
    answer = Response(status, b"", fields(*forbidden))
    assert isinstance(storability(request(*asked), answer, HTTP, KEY, T), DoNotStore)
    asked_so = request("Cache-Control: no-store", *asked)
    assert isinstance(storability(asked_so, Response(status, b"", fields(*lines)), HTTP, KEY, T), DoNotStore)


@given(REQUESTS, STATUS.filter(lambda s: s in (103, 206, 304)), LINES, POLICIES)
def test_no_part_is_ever_stored_as_the_whole(
    asked: Request, status: int, lines: list[str], rule: Policy
) -> None:
    assert isinstance(storability(asked, Response(status, b"", fields(*lines)), rule, KEY, T), DoNotStore)


@given(REQUESTS, VERSIONS, CLOCK)
def test_what_is_served_as_fresh_is_younger_than_its_lifetime(
    asked: Request, stored: Version, now: float
) -> None:
    assume(now >= T)
    stored = planned(stored, HTTP, KEY, T)
    decision = decide(asked, [stored], None, HTTP, now)
    if isinstance(decision, Serve) and not decision.stale:
        # Half a microsecond: the floats of 2023 have no finer steps.
        assert current_age(stored, now) < freshness_lifetime(stored)[0] + 5e-7


@given(REQUESTS, st.lists(VERSIONS, max_size=4), st.none() | VERSIONS, POLICIES, CLOCK)
def test_decisions_respect_variants_and_offline(
    asked: Request, versions: list[Version], error: Version | None, rule: Policy, now: float
) -> None:
    """Vary never crosses variants, offline never asks, and nothing raises."""
    decision = decide(asked, versions, error, rule, now)
    if asked.offline:
        assert isinstance(decision, Serve | Unavailable)
    match decision:
        case Serve(chosen) | Validate(chosen):
            assert asked.method in rule.methods
            nominated = vary_names(chosen.fields)
            if isinstance(nominated, frozenset):
                for name in nominated:
                    assert get_all(chosen.request_fields, name) == get_all(asked.fields, name)
            else:
                assert not rule.strategy.obeys_origin
        case Forward() | Unavailable():
            assert decision.reason


@given(REQUESTS, VERSIONS, CLOCK)
def test_a_condition_is_only_sent_with_a_validator(asked: Request, stored: Version, now: float) -> None:
    decision = decide(asked, [stored], None, HTTP, now)
    if isinstance(decision, Validate) and decision.renewal is Renewal.VALIDATE:
        assert first(stored.fields, b"etag") or first(stored.fields, b"last-modified")


@given(LINES, LINES, st.floats(0, 1e6))
def test_freshen_keeps_what_a_304_omits(stored_lines: list[str], lines: list[str], later: float) -> None:
    stored, answer = version(*stored_lines), Response(304, b"", fields(*lines))
    fresh = freshen(stored, answer, T + later, T + later)
    named = {n.lower() for n, _ in answer.fields}
    for name in {n.lower() for n, _ in stored.fields} - named - {b"date", b"age"}:
        assert get_all(fresh.fields, name) == get_all(stored.fields, name)
    assert get_all(fresh.fields, b"content-length") == get_all(stored.fields, b"content-length")
    assert fresh.body == stored.body
    assert freshen(fresh, answer, T + later, T + later) == fresh


SPEC = st.builds("{}-{}".format, st.integers(0, 12) | st.just(""), st.integers(0, 12) | st.just(""))


@given(st.binary(max_size=12), st.lists(SPEC, max_size=3).map(", ".join))
def test_a_range_is_a_slice_of_the_whole(body: bytes, specs: str) -> None:
    asked = request(f"Range: bytes={specs}")
    match byte_range(asked, version(body=body)):
        case None:
            pass
        case Unsatisfiable(size):
            assert size == len(body)
        case list() as ranges:
            assert [body[a : b + 1] for a, b in ranges] == [expected(s, body) for s in split(specs, body)]


def split(specs: str, body: bytes) -> list[str]:
    """The members that name at least one byte."""
    return [s for s in specs.split(", ") if expected(s, body)]


def expected(spec: str, body: bytes) -> bytes:
    """What one member means, said with slices instead of arithmetic (RFC 9110 §14.1.2)."""
    start, _, end = spec.partition("-")
    if not start:
        return body[-int(end) :] if int(end) else b""
    return body[int(start) :] if not end else body[int(start) : int(end) + 1]


@given(VERSIONS, POLICIES, CLOCK)
def test_plans_are_sane(stored: Version, rule: Policy, now: float) -> None:
    """What is renewed in the background is renewed when it stops answering, and not before."""
    made = planned(stored, rule, KEY, now)
    assert made.refresh_at is None or made.refresh_at == made.fresh_until
    assert replace(made, fresh_until=stored.fresh_until, refresh_at=stored.refresh_at) == stored
