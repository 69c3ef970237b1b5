"""When a stale version may answer: RFC 9111 §4.2.4, RFC 5861, and Buffy's promise."""

from __future__ import annotations

import math

import pytest

from buffy_proxy.core.policy import Policy
from buffy_proxy.core.rules import Serve, Validate, decide, may_serve_stale
from buffy_proxy.core.strategies import Http, Renewal
from tests.core.make import HTTP, NEVER, T, request, version

STRICT = Policy(Http(strict=True))
SWR = "Cache-Control: max-age=1, stale-while-revalidate=10"
SIE = "Cache-Control: max-age=1, stale-if-error=10"

WHILE_REVALIDATING: list[tuple[str, list[str], float, bool]] = [
    ("RFC 5861 §3 within", [SWR], 9, True),
    ("RFC 5861 §3 the last second", [SWR], 10, True),
    ("RFC 5861 §3 after", [SWR], 10.5, False),
    ("RFC 5861 §3 without an argument", ["Cache-Control: stale-while-revalidate"], 1, False),
    ("RFC 5861 §3 invalid", ["Cache-Control: stale-while-revalidate=x"], 1, False),
    ("§5.2.2.2 must-revalidate", [SWR + ", must-revalidate"], 1, False),
    ("§5.2.2.8 proxy-revalidate", [SWR + ", proxy-revalidate"], 1, False),
    ("§5.2.2.10 s-maxage", [SWR + ", s-maxage=1"], 1, False),
    ("§5.2.2.4 no-cache", [SWR + ", no-cache"], 1, False),
    ("§5.2.2.4 no-cache of a field", [SWR + ', no-cache="a"'], 1, True),
    ("RFC 9213", ["Cache-Control: max-age=1", "CDN-Cache-Control: stale-while-revalidate=10"], 9, True),
    ("RFC 9213 not ours", [SWR, "CDN-Cache-Control: max-age=1"], 9, False),
    ("§4.4 invalidated", [SWR], math.inf, False),
]


@pytest.mark.parametrize(
    ("clause", "lines", "late", "served"), WHILE_REVALIDATING, ids=[row[0] for row in WHILE_REVALIDATING]
)
def test_while_revalidating(clause: str, lines: list[str], late: float, served: bool) -> None:
    stored = version(*lines, fresh_until=T - late)
    decision = decide(request(), [stored], None, HTTP, T)
    if served:
        assert isinstance(decision, Serve) and decision.detail == "stale-while-revalidate"
        assert (decision.version, decision.stale) == (stored, True)
        assert decision.renew is not None and decision.renew.renewal is Renewal.REFETCH
    else:
        assert isinstance(decision, Validate)


@pytest.mark.parametrize("asked", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"])
def test_the_client_may_want_better(asked: str) -> None:
    stored = version(SWR, fresh_until=T - 1)
    assert isinstance(decide(request(asked), [stored], None, HTTP, T + 1), Validate)


def test_a_version_with_a_validator_is_validated_behind() -> None:
    decision = decide(request(), [version(SWR, 'ETag: "a"', fresh_until=T - 1)], None, HTTP, T)
    assert isinstance(decision, Serve) and decision.renew is not None
    assert decision.renew.renewal is Renewal.VALIDATE


def test_only_if_cached_asks_nobody() -> None:
    stored = version(SWR, fresh_until=T - 1)
    decision = decide(request("Cache-Control: only-if-cached"), [stored], None, HTTP, T)
    assert decision == Serve(stored, True, "stale-while-revalidate")


def test_a_fresh_version_is_not_renewed() -> None:
    assert decide(request(), [version(SWR, fresh_until=T + 1)], None, HTTP, T) == Serve(
        version(SWR, fresh_until=T + 1), False, ""
    )


WHEN_IT_FAILS: list[tuple[str, Policy, list[str], list[str], float, bool]] = [
    ("Buffy's promise", HTTP, [], ["Cache-Control: max-age=1"], 999, True),
    ("Buffy's promise, past stale-if-error", HTTP, [], [SIE], 999, True),
    ("§5.2.2.2", HTTP, [], [SIE + ", must-revalidate"], 5, False),
    ("§5.2.2.4 of a field", HTTP, [], ['Cache-Control: no-cache="a"'], 5, True),
    ("§4.2.4 strict", STRICT, [], ["Cache-Control: max-age=1"], 5, False),
    ("RFC 5861 §4 strict, within", STRICT, [], [SIE], 10, True),
    ("RFC 5861 §4 strict, after", STRICT, [], [SIE], 11, False),
    ("RFC 5861 §4 strict, the client allows it", STRICT, ["Cache-Control: stale-if-error=9"], [], 9, True),
    ("RFC 5861 §4 strict, forbidden", STRICT, [], [SIE + ", proxy-revalidate"], 5, False),
    ("strict, fresh", STRICT, [], ["Cache-Control: max-age=9"], -5, True),
    ("strict, invalidated", STRICT, [], [SIE], math.inf, False),
    ("a rule", NEVER, [], [SIE + ", must-revalidate"], 5, True),
]


@pytest.mark.parametrize(
    ("clause", "policy", "asked", "lines", "late", "served"),
    WHEN_IT_FAILS,
    ids=[row[0] for row in WHEN_IT_FAILS],
)
def test_when_the_origin_fails(
    clause: str, policy: Policy, asked: list[str], lines: list[str], late: float, served: bool
) -> None:
    stored = version(*lines, fresh_until=T - late)
    assert may_serve_stale(request(*asked), stored, policy, T) is served


def test_a_pin_says_so_even_in_strict_mode() -> None:
    pinned = version("Cache-Control: no-cache", fresh_until=T - 9, pinned_until=T + 1)
    assert may_serve_stale(request(), pinned, STRICT, T)
    assert may_serve_stale(request(offline=True), version(fresh_until=T - 9), STRICT, T)
