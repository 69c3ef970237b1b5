"""Laws of the decisions over messages from the wild: nothing raises, and nothing forbidden slips through."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from buffy_proxy.core.conditional import NOT_FRESHENED, byte_range, confirms, freshen, precondition
from buffy_proxy.core.fields import connection_options, end_to_end, get_all, names
from buffy_proxy.core.freshness import age_value, fresh_until
from buffy_proxy.core.model import Fields, Request, Response, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.rules import (
    DoNotStore,
    Serve,
    StoreError,
    answer_fields,
    conditional_fields,
    current_age,
    decide,
    forward_fields,
    freshness_lifetime,
    invalidated_urls,
    may_serve_stale,
    planned,
    redirected,
    storability,
)
from buffy_proxy.core.strategies import Never
from tests.core.make import HTTP, KEY, URL, T, version
from tests.core.wild import MEMBERS, REQUEST_FIELDS, RESPONSE_FIELDS, shouted

ONE_ROUNDING = 5e-7
"""The floats of 2023 have no finer steps, in seconds."""

STATUS = st.sampled_from([100, 200, 200, 203, 204, 206, 299, 301, 304, 404, 410, 416, 500, 503, 599])
LATER = st.floats(0, 1e9).map(lambda seconds: T + seconds)
REQUESTS = st.builds(
    Request, st.sampled_from(["GET", "GET", "HEAD", "POST", "X"]), st.just(URL), REQUEST_FIELDS
)
VERSIONS = st.builds(
    lambda status, fields, asked, delay: replace(
        version(status=status, asked=asked, requested_at=T - delay), fields=end_to_end(fields)
    ),
    st.sampled_from([200, 200, 203, 301]),
    RESPONSE_FIELDS,
    REQUEST_FIELDS,
    st.floats(-10, 100),
)
POLICIES = st.sampled_from([HTTP, Policy(Never())])


@given(REQUESTS, STATUS, RESPONSE_FIELDS, VERSIONS, POLICIES, LATER)
def test_nothing_raises(
    asked: Request, status: int, said: Fields, stored: Version, rule: Policy, now: float
) -> None:
    response = Response(status, b"", said)
    storability(asked, response, rule, KEY, now)
    stored = planned(stored, rule, KEY, now)
    decide(asked, [stored], stored, rule, now)
    may_serve_stale(asked, stored, rule, now)
    precondition(asked, stored)
    byte_range(asked, stored)
    confirms(stored, response)
    conditional_fields(stored)
    answer_fields(stored, now, b"buffy; hit")
    forward_fields(asked, drop_conditionals=True)
    invalidated_urls(asked, response)
    redirected(asked, response)


@given(VERSIONS, LATER, LATER)
def test_age_never_falls_as_now_rises(stored: Version, a: float, b: float) -> None:
    early, late = sorted((a, b))
    assert current_age(stored, early) <= current_age(stored, late)
    assert current_age(stored, late) >= max(age_value(stored.fields), late - T)


@given(VERSIONS, RESPONSE_FIELDS, LATER, LATER)
def test_a_304_never_makes_it_look_younger_than_itself(
    stored: Version, said: Fields, a: float, b: float
) -> None:
    """Freshening starts the clock anew, from what the 304 says of its own age."""
    validated, now = sorted((a, b))
    fresh = freshen(stored, Response(304, b"", said), validated, validated)
    assert current_age(fresh, now) >= max(age_value(end_to_end(said)), now - validated - ONE_ROUNDING)


NO_STORE = shouted(st.just("no-store")).flatmap(
    lambda name: st.sampled_from([name, f" {name}\t", f"{name}=x", f'{name}="x"', f"{name}=", f"{name} foo"])
)
UNCLOSED = st.sampled_from(['x="9', '"', 'max-age="60'])


@st.composite
def with_no_store(draw: st.DrawFn, others: st.SearchStrategy[Fields]) -> Fields:
    """Fields of which a Cache-Control holds no-store somewhere, maybe behind a quote that nobody closes."""
    members = [*draw(st.lists(MEMBERS, max_size=3)), draw(NO_STORE), *draw(st.lists(UNCLOSED, max_size=1))]
    members = draw(st.permutations(members))
    cut = draw(st.integers(0, len(members)))
    lines = [b"Cache-Control", b"CACHE-control"], [",".join(members[:cut]), ",".join(members[cut:])]
    controls = [(name, value.encode("utf-8")) for name, value in zip(*lines, strict=True)]
    rest = [line for line in draw(others) if line[0].lower() != b"cache-control"]
    return (*rest[: len(rest) // 2], *controls, *rest[len(rest) // 2 :])


@given(REQUESTS, STATUS, with_no_store(RESPONSE_FIELDS), POLICIES)
def test_no_store_in_a_response_is_always_seen(
    asked: Request, status: int, said: Fields, rule: Policy
) -> None:
    """For every strategy that obeys, and for errors under any."""
    assume(not any(b"must-understand" in value.lower() for value in get_all(said, b"cache-control")))
    assume(rule is HTTP or status >= 400)
    assert isinstance(storability(asked, Response(status, b"", said), rule, KEY, T), DoNotStore)


@given(with_no_store(REQUEST_FIELDS), STATUS, RESPONSE_FIELDS)
def test_no_store_in_a_request_is_always_seen(asked: Fields, status: int, said: Fields) -> None:
    request = Request("GET", URL, asked)
    assert isinstance(storability(request, Response(status, b"", said), HTTP, KEY, T), DoNotStore)


@given(REQUESTS, VERSIONS, RESPONSE_FIELDS, LATER, LATER)
def test_what_is_served_as_fresh_is_younger_than_its_lifetime(
    asked: Request, stored: Version, said: Fields, a: float, b: float
) -> None:
    """When it was stored, and after a 304 has made it current again."""
    validated, now = sorted((a, b))
    again = freshen(stored, Response(304, b"", said), validated, validated)
    for each, since in ((stored, T), (again, validated)):
        decision = decide(asked, [planned(each, HTTP, KEY, since)], None, HTTP, now)
        if isinstance(decision, Serve) and not decision.stale:
            assert current_age(each, now) < freshness_lifetime(each)[0] + ONE_ROUNDING
            assert now < fresh_until(each)


@given(st.sampled_from([404, 410, 500, 503]), st.integers(0, 999), RESPONSE_FIELDS, st.integers(0, 1100))
def test_an_error_is_repeated_only_while_fresh(status: int, seconds: int, said: Fields, elapsed: int) -> None:
    fields = ((b"Cache-Control", b"max-age=%d" % seconds), *said)
    verdict = storability(Request("GET", URL), Response(status, b"", fields), HTTP, KEY, T)
    if isinstance(verdict, DoNotStore):
        return
    assert isinstance(verdict, StoreError)
    error = replace(version(status=status), fields=end_to_end(fields), fresh_until=verdict.until)
    decision = decide(Request("GET", URL), [], error, HTTP, T + elapsed)
    if isinstance(decision, Serve):
        assert current_age(error, T + elapsed) < freshness_lifetime(error)[0]
    else:
        assert T + elapsed >= verdict.until or b"vary" in names(error.fields)


@given(VERSIONS, RESPONSE_FIELDS, LATER)
def test_freshen_replaces_what_a_304_names_and_keeps_the_rest(
    stored: Version, said: Fields, now: float
) -> None:
    fresh = freshen(stored, Response(304, b"", said), now, now)
    brought = end_to_end(said)
    for name in names(brought) - NOT_FRESHENED:
        assert get_all(fresh.fields, name) == get_all(brought, name)
    for name in names(stored.fields) - (names(brought) - NOT_FRESHENED) - {b"date", b"age"}:
        assert get_all(fresh.fields, name) == get_all(stored.fields, name)
    assert names(fresh.fields) <= names(stored.fields) | names(brought) | {b"date"}
    assert not names(fresh.fields) & NOT_FRESHENED - names(stored.fields)
    assert b"connection" not in names(fresh.fields) and fresh.body == stored.body


@given(VERSIONS)
def test_answers_hold_nothing_for_one_connection(stored: Version) -> None:
    """Hop-by-hop fields and cookies of others stay behind; Age and Date are always there, once."""
    answer = answer_fields(stored, T, b"buffy; hit")
    assert not names(answer) & {b"connection", b"set-cookie", b"transfer-encoding"}
    assert len(get_all(answer, b"age")) == 1
    assert get_all(answer, b"date") and not connection_options(answer)
