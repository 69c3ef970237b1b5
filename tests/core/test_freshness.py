"""How long responses stay fresh and how old they are. All came at T, with Date: T unless the row has one."""

from __future__ import annotations

from typing import Any

import pytest

from buffy_proxy.core.freshness import current_age, fresh_until, freshness_lifetime
from tests.core.make import T, date, version

HOUR = 3600.0
LIFETIMES: list[tuple[str, int, list[str], float]] = [
    ("§4.2.1 s-maxage before max-age", 200, ["Cache-Control: max-age=10, s-maxage=20"], 20),
    ("§4.2.1 max-age before Expires", 200, ["Cache-Control: max-age=10", f"Expires: {date(T + 99)}"], 10),
    ("§4.2.1 Expires − Date", 200, [f"Expires: {date(T + 99)}"], 99),
    ("§4.2.1 an hour off", 200, [f"Date: {date(T - HOUR)}", f"Expires: {date(T - HOUR + 99)}"], 99),
    ("§4.2.1 Expires, no valid Date", 200, ["Date: yesterday", f"Expires: {date(T + 99)}"], 99),
    ("§4.2.1 the first of two", 200, ["Cache-Control: max-age=10", "Cache-Control: max-age=20"], 10),
    ("§4.2.1 the first of two Expires", 200, [f"Expires: {date(T + 9)}", f"Expires: {date(T + 99)}"], 9),
    ("§4.2.1 invalid max-age", 200, ["Cache-Control: max-age=a", f"Expires: {date(T + 99)}"], 0),
    ("§4.2.1 no argument", 200, ["Cache-Control: max-age"], 0),
    ("§4.2.1 negative", 200, ["Cache-Control: max-age=-5"], 0),
    ("§5.2.2.10 invalid s-maxage", 200, ["Cache-Control: s-maxage=a, max-age=10"], 0),
    ("§5.2.2.10 s-maxage=0", 200, ["Cache-Control: s-maxage=0, max-age=10"], 0),
    ("§5.3 Expires: 0", 200, ["Expires: 0"], 0),
    ("§5.3 invalid Expires", 200, ["Expires: Thu, 01 Jan 2099 00:00:00 UTC"], 0),
    ("§5.3 Expires in the past", 200, [f"Expires: {date(T - 99)}"], 0),
    ("§5.2.2.4 no-cache", 200, ["Cache-Control: no-cache, max-age=10"], 0),
    ("§5.2.2.4 no-cache with fields", 200, ['Cache-Control: max-age=10, no-cache="x"'], 10),
    ("§5.2.2.4 both forms", 200, ['Cache-Control: max-age=10, no-cache="x", no-cache'], 0),
    ("§5.2.2.4 an empty list", 200, ['Cache-Control: max-age=10, no-cache=""'], 0),
    ("§4.2.2 a tenth", 200, [f"Last-Modified: {date(T - HOUR)}"], 360),
    ("§4.2.2 at most a day", 200, [f"Last-Modified: {date(T - 9999 * HOUR)}"], 86400),
    ("§4.2.2 modified in the future", 200, [f"Last-Modified: {date(T + HOUR)}"], 0),
    ("§4.2.2 not modified in our time", 200, ["Last-Modified: once"], 0),
    ("§4.2.2 never with explicit", 200, [f"Last-Modified: {date(T - HOUR)}", "Cache-Control: max-age=1"], 1),
    ("§4.2.2 status without heuristics", 302, [f"Last-Modified: {date(T - HOUR)}"], 0),
    ("§4.2.2 public permits", 302, [f"Last-Modified: {date(T - HOUR)}", "Cache-Control: public"], 360),
    ("§4.2.2 nothing to go by", 200, [], 0),
]


@pytest.mark.parametrize(("clause", "status", "lines", "seconds"), LIFETIMES, ids=[r[0] for r in LIFETIMES])
def test_lifetime(clause: str, status: int, lines: list[str], seconds: float) -> None:
    assert freshness_lifetime(version(*lines, status=status))[0] == pytest.approx(seconds)


REASONS = [
    (["Cache-Control: s-maxage=20"], "s-maxage=20"),
    (["Cache-Control: max-age=x"], "invalid max-age"),
    ([f"Expires: {date(T + 9)}"], "Expires"),
    (["Expires: never"], "invalid Expires"),
    (["Cache-Control: no-cache"], "no-cache"),
    ([f"Last-Modified: {date(T - 9)}"], "a tenth of its age by Last-Modified"),
    ([], "no freshness information"),
]


@pytest.mark.parametrize(("lines", "reason"), REASONS)
def test_the_reason_is_said(lines: list[str], reason: str) -> None:
    assert freshness_lifetime(version(*lines))[1] == reason


AGES: list[tuple[str, list[str], dict[str, float], float]] = [
    ("§4.2.3 resident time alone", [], {}, 0),
    ("§4.2.3 apparent age", [f"Date: {date(T - 30)}"], {}, 30),
    ("§4.2.3 Age", ["Age: 40"], {}, 40),
    ("§4.2.3 the larger of both", ["Age: 20", f"Date: {date(T - 30)}"], {}, 30),
    ("§4.2.3 response delay", ["Age: 40"], {"requested_at": T - 5}, 45),
    ("§4.2.3 delay without Age", [], {"requested_at": T - 5}, 5),
    ("§4.2.3 a clock that went back", ["Age: 40"], {"requested_at": T + 5}, 40),
    ("§4.2.3 Date ahead of us", [f"Date: {date(T + 3600)}"], {}, 0),
    ("RFC 9110 §6.6.1 invalid Date", ["Date: 0"], {}, 0),
    ("§5.1 invalid Age", ["Age: old"], {}, 0),
    ("§5.1 negative Age", ["Age: -10"], {}, 0),
    ("§5.1 fraction", ["Age: 10.5"], {}, 0),
    ("§5.1 the first of a list", ["Age: 10, 20"], {}, 10),
    ("§5.1 the first of two lines", ["Age: 10", "Age: 20"], {}, 10),
    ("§5.1 first invalid", ["Age: x, 20"], {}, 0),
    ("§1.2.2 too large", ["Age: 99999999999999"], {}, 2**31),
]


@pytest.mark.parametrize(("clause", "lines", "times", "age"), AGES, ids=[row[0] for row in AGES])
def test_current_age(clause: str, lines: list[str], times: dict[str, Any], age: float) -> None:
    stored = version(*lines, **times)
    assert current_age(stored, T) == age
    assert current_age(stored, T + 7.5) == age + 7.5
    assert current_age(stored, T - 100) == age  # a clock that went back makes nothing younger than it came


def test_fresh_until_counts_the_age_it_came_with() -> None:
    assert fresh_until(version("Cache-Control: max-age=60", "Age: 20")) == T + 40
    assert fresh_until(version("Cache-Control: max-age=60", "Age: 100")) == T - 40
