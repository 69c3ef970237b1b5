"""Calendars: real months, holidays, summer time; and the strategy in a running Buffy."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.strategies import Strategy
from buffy_proxy.testing import Origin, RunningBuffy, make_version, posix, utc_text
from tests.plugins.kit import loaded, plugin_file

PLUGINS = loaded("release_days")


def make(name: str, **parameters: Any) -> Strategy:
    return PLUGINS.strategy({"strategy_name": name, **parameters})


def until(strategy: Strategy, at: str) -> str:
    """When a version validated then is to be renewed."""
    version = make_version(at=posix(at))
    plan = strategy.plan(version, posix(at), "https://example.org/")
    assert PLUGINS.failures.total == 0
    return utc_text(plan.fresh_until)


BERLIN = {"zone": "Europe/Berlin", "time": "08:00"}
RELEASES = [
    ("first working day", {}, "2026-11-25T00:00:00Z", "2026-12-01T09:00:00Z"),
    ("first working day", {}, "2026-07-31T12:00:00Z", "2026-08-03T09:00:00Z"),  # the 1st is a Saturday
    ("first working day", {"holidays": ["01-01"]}, "2025-12-31T00:00:00Z", "2026-01-02T09:00:00Z"),
    ("first working day", {"holidays": ["01-01", "01-02"]}, "2025-12-31T00:00:00Z", "2026-01-05T09:00:00Z"),
    ("last working day", {}, "2026-05-01T00:00:00Z", "2026-05-29T09:00:00Z"),  # the 31st is a Sunday
    ("last friday", {}, "2026-02-01T00:00:00Z", "2026-02-27T09:00:00Z"),
    ("third wednesday", {"months": [3, 6, 9, 12]}, "2026-11-25T00:00:00Z", "2026-12-16T09:00:00Z"),
    ("third wednesday", {"months": [3, 6, 9, 12]}, "2026-12-16T09:00:00Z", "2027-03-17T09:00:00Z"),
    ("15", {}, "2026-11-25T00:00:00Z", "2026-12-15T09:00:00Z"),
    ("31", {}, "2026-02-01T00:00:00Z", "2026-02-28T09:00:00Z"),
    ("31", {}, "2028-02-01T00:00:00Z", "2028-02-29T09:00:00Z"),
    ("last day", {}, "2027-12-31T08:59:59Z", "2027-12-31T09:00:00Z"),
    ("last day", {}, "2027-12-31T09:00:00Z", "2028-01-31T09:00:00Z"),
    ("", {"dates": ["2026-12-24"]}, "2026-11-25T00:00:00Z", "2026-12-24T09:00:00Z"),
    ("", {"dates": ["02-29"]}, "2026-11-25T00:00:00Z", "2028-02-29T09:00:00Z"),
    ("15", {"dates": ["2026-12-03"]}, "2026-11-25T00:00:00Z", "2026-12-03T09:00:00Z"),
    ("1", BERLIN, "2026-06-15T00:00:00Z", "2026-07-01T06:00:00Z"),  # summer time
    ("1", BERLIN, "2026-11-15T00:00:00Z", "2026-12-01T07:00:00Z"),
    ("29", {**BERLIN, "time": "02:30"}, "2026-03-01T00:00:00Z", "2026-03-29T01:30:00Z"),  # skipped
    ("1", {"zone": "Pacific/Kiritimati", "time": "00:00"}, "2026-11-15T00:00:00Z", "2026-11-30T10:00:00Z"),
    ("1", {"zone": "Pacific/Pago_Pago", "time": "23:59"}, "2026-12-02T10:00:00Z", "2026-12-02T10:59:00Z"),
]  # fmt: skip


@pytest.mark.parametrize(("day", "more", "at", "expected"), RELEASES)
def test_the_next_release(day: str, more: dict[str, Any], at: str, expected: str) -> None:
    assert posix(until(make("release_days", day=day, **more), at)) == posix(expected)


HOURS = [
    ("2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"),  # Wednesday, open
    ("2026-11-25T17:30:00Z", "2026-11-25T18:00:00Z"),  # once more when it closes
    ("2026-11-25T18:00:00Z", "2026-11-26T08:00:00Z"),
    ("2026-11-25T05:00:00Z", "2026-11-25T08:00:00Z"),
    ("2026-11-27T18:00:01Z", "2026-11-30T08:00:00Z"),  # over the weekend
    ("2026-12-24T20:00:00Z", "2026-12-28T08:00:00Z"),  # Christmas, then a weekend
]


@pytest.mark.parametrize(("at", "expected"), HOURS)
def test_business_hours(at: str, expected: str) -> None:
    strategy = make("business_hours", holidays=["12-25"])
    assert posix(until(strategy, at)) == posix(expected)


REFUSED = [
    ("release_days", {"day": "fifth monday"}, "day: 'fifth monday' is none; write 'first working day'"),
    ("release_days", {"day": "32"}, "day: '32' is none"),
    ("release_days", {"day": ""}, "day: '' needs dates"),
    ("release_days", {"time": "9:00"}, "time: '9:00' is no time of day; write '08:30'"),
    ("release_days", {"zone": "Berlin"}, "zone: 'Berlin' is no time zone; write 'Europe/Berlin'"),
    ("release_days", {"zone": "../x"}, "is no time zone"),
    ("release_days", {"months": [0]}, "months: 0 is no month; 1 to 12 are"),
    ("release_days", {"months": ["May"]}, "months: 'May' is no month"),
    ("release_days", {"dates": ["24.12."]}, "dates: '24.12.' is no day; write '2026-12-24'"),
    ("release_days", {"holidays": [3]}, "holidays: 3 is no day"),
    ("release_days", {"day": "", "dates": ["2001-01-01"]}, "leave no release in thirty years"),
    ("release_days", {"hour": 3}, "parameter 'hour' is unknown"),
    ("business_hours", {"opens": "18:00", "closes": "08:00"}, "closes: '08:00' is not after opens"),
    ("business_hours", {"days": ["mon"]}, "days: must be some of monday, tuesday"),
    ("business_hours", {"seconds": -1}, "seconds: -1 is negative"),
]


@pytest.mark.parametrize(("name", "parameters", "message"), REFUSED)
def test_what_is_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        make(name, **parameters)
    assert message in str(refused.value)


MOMENTS = st.floats(posix("2020-01-01T00:00:00Z"), posix("2060-01-01T00:00:00Z"))
CALENDARS = st.fixed_dictionaries(
    {
        "day": st.sampled_from(["first working day", "last friday", "second day", "29", "last working day"]),
        "zone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        "time": st.sampled_from(["00:00", "02:30", "12:00", "23:59"]),
        "months": st.sampled_from([[], [1], [2, 8], [3, 6, 9, 12]]),
    }
)


@given(CALENDARS, MOMENTS, st.floats(0, 40 * 86400))
def test_laws_of_releases(calendar: dict[str, Any], at: float, later: float) -> None:
    """Always later; never earlier for what was validated later; no release is passed over."""
    strategy = make("release_days", **calendar)
    first, second = (
        strategy.plan(make_version(at=moment), moment, "").fresh_until for moment in (at, at + later)
    )
    assert at < first <= second
    if second > first:
        assert at + later >= first
    wall = datetime.fromtimestamp(first, ZoneInfo(calendar["zone"]))
    assert not calendar["months"] or wall.month in calendar["months"]
    assert PLUGINS.failures.total == 0


@given(MOMENTS, st.floats(0, 10 * 86400))
def test_laws_of_business_hours(at: float, later: float) -> None:
    strategy = make("business_hours", zone="America/New_York")
    first, second = (
        strategy.plan(make_version(at=moment), moment, "").fresh_until for moment in (at, at + later)
    )
    assert at < first <= second


def test_in_a_running_buffy(origin: Origin) -> None:
    """Until the release tomorrow it is fresh, whatever the origin says."""
    route = origin.serve("/data", b"data", {"Cache-Control": "no-store"})
    tomorrow = datetime.fromtimestamp(time.time() + 86400, ZoneInfo("UTC")).strftime("%m-%d")
    rule = f"""
[[rule]]
match = "http://127.0.0.1*/**"
strategy = {{ strategy_name = "release_days", day = "", dates = ["{tomorrow}"], time = "00:00" }}
"""
    with RunningBuffy(rule, plugins=[plugin_file("release_days")]) as buffy:
        assert [buffy.get(route.url).content for _ in range(2)] == [b"data", b"data"]
        assert route.count == 1
        assert "Strategy `release_days` by rule 1" in buffy.why(route.url)


def test_the_background_renews_at_the_release(origin: Origin) -> None:
    """What was stored before a release that is past is renewed though nobody asks."""
    route = origin.serve("/data", b"data")
    soon = datetime.fromtimestamp(time.time() + 61, ZoneInfo("UTC"))
    rule = f"""
[[rule]]
match = "http://127.0.0.1*/**"
strategy = {{ strategy_name = "release_days", day = "", dates = ["{soon:%m-%d}"], time = "{soon:%H:%M}" }}
"""
    with RunningBuffy(rule, plugins=[plugin_file("release_days")]) as buffy:
        assert buffy.get(route.url).content == b"data"
        route.wait(2, timeout_s=90)
