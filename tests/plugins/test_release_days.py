"""Calendars: real months, holidays, summer time; and the strategy in a running Buffy."""

from __future__ import annotations

import calendar
import datetime as dt
import math
import re
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.config import load
from buffy_proxy.core.strategies import Strategy
from buffy_proxy.testing import Origin, RunningBuffy, make_version, posix, utc_text, wait_until
from tests.plugins.kit import loaded, plugin_file

PLUGINS = loaded("release_days")
SOURCE = plugin_file("release_days")


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
    ("10th working day", {"holidays": ["12-08"]}, "2026-11-25T00:00:00Z", "2026-12-15T09:00:00Z"),
    ("5th monday", {}, "2026-11-30T09:00:00Z", "2027-03-29T09:00:00Z"),  # in some months only
    ("every friday", {"time": "16:00:30"}, "2026-11-27T16:00:30Z", "2026-12-04T16:00:30Z"),
    ("every working day", {"holidays": ["12-25"]}, "2026-12-24T12:00:00Z", "2026-12-28T09:00:00Z"),
    ("15", {"shift": "next"}, "2026-11-01T00:00:00Z", "2026-11-16T09:00:00Z"),  # the 15th is a Sunday
    ("15", {"shift": "previous"}, "2026-11-01T00:00:00Z", "2026-11-13T09:00:00Z"),
    ("last day", {"shift": "next"}, "2026-10-31T12:00:00Z", "2026-11-02T09:00:00Z"),  # into the next month
    ("1", {"shift": "previous"}, "2026-07-20T00:00:00Z", "2026-07-31T09:00:00Z"),  # into the month before
    ("last friday", {"shift": "next", "holidays": ["12-25"]}, "2026-12-01T00:00:00Z", "2026-12-28T09:00:00Z"),
    ("last day", {"months": [3, 6, 9, 12]}, "2026-11-25T00:00:00Z", "2026-12-31T09:00:00Z"),
    ("", {"dates": ["02-29"]}, "2096-03-01T00:00:00Z", "2104-02-29T09:00:00Z"),  # 2100 is no leap year
    ("", {"dates": ["2026-12-24", "11-30"]}, "2026-11-30T09:00:00Z", "2026-12-24T09:00:00Z"),
    ("25", {"zone": "Europe/Berlin", "time": "02:30"}, "2026-10-01T00:00:00Z", "2026-10-25T00:30:00Z"),
    ("30", {"zone": "Pacific/Apia"}, "2011-12-30T12:00:00Z", "2011-12-30T19:00:00Z"),  # skipped
    ("", {"zone": "Pacific/Apia", "dates": ["12-30"]}, "2011-12-30T12:00:00Z", "2011-12-30T19:00:00Z"),
    ("last day", {"shift": "next"}, "2026-11-01T12:00:00Z", "2026-11-02T09:00:00Z"),
    ("1", {"zone": "Pacific/Kiritimati", "time": "00:00"}, "2026-11-15T00:00:00Z", "2026-11-30T10:00:00Z"),
    ("1", {"zone": "Pacific/Pago_Pago", "time": "23:59"}, "2026-12-02T10:00:00Z", "2026-12-02T10:59:00Z"),
]  # fmt: skip


@pytest.mark.parametrize(("day", "more", "at", "expected"), RELEASES)
def test_the_next_release(day: str, more: dict[str, Any], at: str, expected: str) -> None:
    assert posix(until(make("release_days", day=day, **more), at)) == posix(expected)


def test_after_the_last_named_date_it_is_kept() -> None:
    """Dates of one year must not become a failure on the next New Year."""
    strategy = make("release_days", day="", dates=["2026-11-02", "2026-12-01"])
    before, after = (
        strategy.plan(make_version(at=at), posix(at), "")
        for at in ("2026-11-30T00:00:00Z", "2026-12-01T09:00:00Z")
    )
    assert before.fresh_until == before.refresh_at == posix("2026-12-01T09:00:00Z")
    assert (after.fresh_until, after.refresh_at) == (math.inf, None)
    assert "no further release is named" in after.reason
    assert PLUGINS.failures.total == 0


RELEASE = "2026-12-01T09:00:00Z"
LATE = [
    # the content came, it was last confirmed, and is to be asked again
    ("2026-11-02T09:00:01Z", RELEASE, "2026-12-01T09:05:00Z"),  # on time, and nothing new yet
    ("2026-11-02T09:00:01Z", "2026-12-01T09:05:00Z", "2026-12-01T09:10:00Z"),
    ("2026-11-02T09:00:01Z", "2026-12-01T09:29:59Z", "2026-12-01T09:34:59Z"),
    ("2026-11-02T09:00:01Z", "2026-12-01T09:30:00Z", "2027-01-01T09:00:00Z"),  # no longer awaited
    ("2026-12-01T09:05:00Z", "2026-12-01T09:06:00Z", "2027-01-01T09:00:00Z"),  # it has come
    ("2026-11-02T09:00:01Z", "2026-12-01T08:59:59Z", RELEASE),  # not yet due
]


@pytest.mark.parametrize(("came", "confirmed", "expected"), LATE)
def test_a_late_release_is_looked_for(came: str, confirmed: str, expected: str) -> None:
    strategy = make("release_days", day="first working day", retry_seconds=300, late_seconds=1800)
    plan = strategy.plan(make_version(at=came, validated_at=confirmed), posix(confirmed), "")
    assert utc_text(plan.fresh_until) == expected
    assert plan.refresh_at == plan.fresh_until
    assert ("late" in plan.reason) == expected.startswith("2026-12-01T09:") ^ (expected == RELEASE)


def test_the_next_release_ends_the_wait_for_a_late_one() -> None:
    strategy = make("release_days", day="every day", retry_seconds=1800, late_seconds=86400)
    version = make_version(at="2026-11-24T10:00:00Z", validated_at="2026-11-26T08:50:00Z")
    assert utc_text(strategy.plan(version, version.validated_at, "").fresh_until) == "2026-11-26T09:00:00Z"


HOURS = [
    ("2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"),  # Wednesday, open
    ("2026-11-25T17:30:00Z", "2026-11-25T18:00:00Z"),  # once more when it closes
    ("2026-11-25T18:00:00Z", "2026-11-26T08:00:00Z"),
    ("2026-11-25T05:00:00Z", "2026-11-25T08:00:00Z"),
    ("2026-11-25T08:00:00Z", "2026-11-25T09:00:00Z"),  # it has just opened
    ("2026-11-27T18:00:01Z", "2026-11-30T08:00:00Z"),  # over the weekend
    ("2026-12-24T20:00:00Z", "2026-12-28T08:00:00Z"),  # Christmas, then a weekend
]


@pytest.mark.parametrize(("at", "expected"), HOURS)
def test_business_hours(at: str, expected: str) -> None:
    strategy = make("business_hours", holidays=["12-25"])
    assert posix(until(strategy, at)) == posix(expected)


NIGHTS = [
    ("2026-11-24T22:00:00Z", "2026-11-24T23:00:00Z"),  # Tuesday night, open
    ("2026-11-25T03:30:00Z", "2026-11-25T04:00:00Z"),  # it closes on Wednesday morning
    ("2026-11-25T04:00:00Z", "2026-11-25T20:00:00Z"),
    ("2026-11-28T01:00:00Z", "2026-11-28T02:00:00Z"),  # Saturday, but opened on Friday
    ("2026-11-28T04:00:00Z", "2026-11-30T20:00:00Z"),
]


@pytest.mark.parametrize(("at", "expected"), NIGHTS)
def test_business_hours_over_midnight(at: str, expected: str) -> None:
    assert until(make("business_hours", opens="20:00", closes="04:00"), at) == expected


SUMMER_TIME = [  # Berlin: 29 March 2026, 02:00 becomes 03:00; 25 October, 03:00 becomes 02:00
    ("2026-03-27T18:00:00Z", "2026-03-28T07:00:00Z"),
    ("2026-03-28T18:00:00Z", "2026-03-29T06:00:00Z"),
    ("2026-10-24T17:00:00Z", "2026-10-25T07:00:00Z"),
]


@pytest.mark.parametrize(("at", "expected"), SUMMER_TIME)
def test_business_hours_through_summer_time(at: str, expected: str) -> None:
    strategy = make("business_hours", zone="Europe/Berlin", days=[day.lower() for day in calendar.day_name])
    assert until(strategy, at) == expected


def test_business_hours_around_the_clock() -> None:
    strategy = make("business_hours", opens="00:00", closes="00:00")
    assert until(strategy, "2026-11-25T10:00:00Z") == "2026-11-25T11:00:00Z"
    assert until(strategy, "2026-11-25T23:30:00Z") == "2026-11-26T00:00:00Z"
    assert until(strategy, "2026-11-28T00:00:00Z") == "2026-11-30T00:00:00Z"


REFUSED = [
    ("release_days", {"day": "sixth monday"}, "day: 'sixth monday' is none; write 'first working day'"),
    ("release_days", {"day": "6th monday"}, "day: '6th monday', with these months and holidays, never comes"),
    ("release_days", {"shift": "later"}, "shift: 'later' is unknown; allowed are 'next', 'previous' and ''"),
    ("release_days", {"retry_seconds": 0}, "retry_seconds: 0 would ask without a pause"),
    ("release_days", {"late_seconds": -1}, "late_seconds: -1 is negative"),
    ("release_days", {"time": "24:00"}, "time: '24:00' is no time of day"),
    ("release_days", {"dates": ["2026-02-29"]}, "dates: '2026-02-29' is no day"),
    ("release_days", {"holidays": ["2026-W01-1"]}, "holidays: '2026-W01-1' is no day"),
    ("release_days", {"holidays": [["12-24"]]}, "holidays: ['12-24'] is no day"),
    ("release_days", {"day": "32"}, "day: '32' is none"),
    ("release_days", {"day": ""}, "day: '' needs dates"),
    ("release_days", {"time": "9:00"}, "time: '9:00' is no time of day; write '08:30'"),
    ("release_days", {"zone": "Berlin"}, "zone: 'Berlin' is no time zone; write 'Europe/Berlin'"),
    ("release_days", {"zone": "../x"}, "is no time zone"),
    ("release_days", {"months": [0]}, "months: 0 is no month; 1 to 12 are"),
    ("release_days", {"months": ["May"]}, "months: 'May' is no month"),
    ("release_days", {"dates": ["24.12."]}, "dates: '24.12.' is no day; write '2026-12-24'"),
    ("release_days", {"holidays": [3]}, "holidays: 3 is no day"),
    ("release_days", {"hour": 3}, "parameter 'hour' is unknown"),
    ("business_hours", {"closes": "24:00"}, "closes: '24:00' is no time of day"),
    ("business_hours", {"days": []}, "days: must be some of monday, tuesday"),
    ("business_hours", {"days": ["mon"]}, "days: must be some of monday, tuesday"),
    ("business_hours", {"seconds": -1}, "seconds: -1 is negative"),
]


@pytest.mark.parametrize(("name", "parameters", "message"), REFUSED)
def test_what_is_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        make(name, **parameters)
    assert message in str(refused.value)


MOMENTS = st.floats(posix("2020-01-01T00:00:00Z"), posix("2060-01-01T00:00:00Z"))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana"])
KINDS = [
    "first working day",
    "last friday",
    "second day",
    "29",
    "last working day",
    "every sunday",
    "9th day",
    "31",
]
CALENDARS = st.fixed_dictionaries(
    {
        "day": st.sampled_from(KINDS),
        "zone": ZONES,
        "time": st.sampled_from(["00:00", "02:30", "12:00", "23:59"]),
        "months": st.sampled_from([[], [1], [2, 8], [3, 6, 9, 12]]),
        "shift": st.sampled_from(["", "next", "previous"]),
        "dates": st.sampled_from([[], ["02-29"], ["2031-05-05", "12-31"]]),
        "holidays": st.sampled_from([[], ["01-01", "12-25", "12-26", "02-28"]]),
    }
)


@given(CALENDARS, MOMENTS, st.floats(0, 40 * 86400))
def test_laws_of_releases(parameters: dict[str, Any], at: float, later: float) -> None:
    """Always later; never earlier for what was validated later; no release is passed over."""
    strategy = make("release_days", **parameters)
    first, second = (
        strategy.plan(make_version(at=moment), moment, "").fresh_until for moment in (at, at + later)
    )
    assert at < first <= second
    if second > first:
        assert at + later >= first
    assert PLUGINS.failures.total == 0


@given(CALENDARS, MOMENTS, st.floats(0, 2 * 86400))
def test_laws_of_late_releases(parameters: dict[str, Any], came: float, later: float) -> None:
    """Content that was there before is asked for at least as early as content that has just come."""
    strategy, at = make("release_days", **parameters, late_seconds=7200), came + later
    old, new = (
        strategy.plan(make_version(at=moment, validated_at=at), at, "").fresh_until for moment in (came, at)
    )
    assert at < old <= new
    assert old in (new, at + 600)


@given(CALENDARS, MOMENTS)
def test_releases_against_a_simple_search(parameters: dict[str, Any], at: float) -> None:
    """The same by looking at every day, for the calendars that are easily said: without shift and dates."""
    plain = {**parameters, "shift": "", "dates": [], "months": []}
    found = make("release_days", **plain).plan(make_version(at=at), at, "").fresh_until
    zone, clock = ZoneInfo(plain["zone"]), dt.time.fromisoformat(plain["time"])
    day = datetime.fromtimestamp(at, zone).date()
    while not (is_release(day, plain) and datetime.combine(day, clock, zone).timestamp() > at):
        day += dt.timedelta(days=1)
    assert found == datetime.combine(day, clock, zone).timestamp()


def is_release(day: dt.date, parameters: dict[str, Any]) -> bool:
    def works(other: dt.date) -> bool:
        return other.weekday() < 5 and f"{other:%m-%d}" not in parameters["holidays"]

    last = calendar.monthrange(day.year, day.month)[1]
    before = [day.replace(day=n) for n in range(1, day.day)]
    behind = [day.replace(day=n) for n in range(day.day + 1, last + 1)]
    return {
        "first working day": works(day) and not any(works(other) for other in before),
        "last working day": works(day) and not any(works(other) for other in behind),
        "last friday": day.weekday() == 4 and day.day > last - 7,
        "second day": day.day == 2,
        "every sunday": day.weekday() == 6,
        "9th day": day.day == 9,
        "29": day.day == min(29, last),
        "31": day.day == last,
    }[parameters["day"]]


@given(ZONES, st.sampled_from(["00:00", "02:30", "09:00"]), MOMENTS, st.floats(0, 10 * 86400))
def test_laws_of_business_hours(zone: str, closes: str, at: float, later: float) -> None:
    strategy = make("business_hours", zone=zone, opens="02:00", closes=closes)
    first, second = (
        strategy.plan(make_version(at=moment), moment, "").fresh_until for moment in (at, at + later)
    )
    assert at < first <= second
    assert PLUGINS.failures.total == 0


def test_the_example_at_the_top_is_a_configuration(tmp_path: Path) -> None:
    text = textwrap.dedent(re.findall(r"( {4}\[\[rule\]\].*?\n\n)(?=\S)", SOURCE.read_text(), re.DOTALL)[0])
    (tmp_path / "buffy.toml").write_text(text)
    config = load(tmp_path / "buffy.toml", environ={}, data_dir=tmp_path, plugin_files=[SOURCE])
    assert [rule.policy.strategy.strategy_name for rule in config.rules] == ["release_days", "business_hours"]


def test_in_a_running_buffy(origin: Origin) -> None:
    """Until the release it is fresh, whatever the origin says."""
    route = origin.serve("/data", b"data", {"Cache-Control": "no-store"})
    soon = datetime.fromtimestamp(time.time() + 2 * 86400, UTC)
    rule = f"""
[[rule]]
match = "http://127.0.0.1*/**"
strategy = {{ strategy_name = "release_days", day = "", dates = ["{soon:%Y-%m-%d}"], time = "00:00" }}
"""
    with RunningBuffy(rule, plugins=[SOURCE]) as buffy:
        assert [buffy.get(route.url).content for _ in range(2)] == [b"data", b"data"]
        assert route.count == 1
        assert "Strategy `release_days` by rule 1" in buffy.why(route.url)


def test_the_background_waits_for_a_late_release(origin: Origin) -> None:
    """Nobody asks: the old content is still there at the release, the new content comes a little later, and
    then the origin is left alone."""
    route = origin.serve("/data", b"of November")
    release = datetime.fromtimestamp(time.time() + 20, UTC)
    rule = f"""
[[rule]]
match = "http://127.0.0.1*/**"
[rule.strategy]
strategy_name = "release_days"
day = ""
dates = ["{release:%Y-%m-%d}"]
time = "{release:%H:%M:%S}"
retry_seconds = 1
"""
    with RunningBuffy(rule, plugins=[SOURCE]) as buffy:
        assert buffy.get(route.url).content == b"of November"
        assert (route.count, time.time() < release.timestamp()) == (1, True)
        route.wait(3, timeout_s=60)
        assert time.time() >= release.timestamp()
        route.body = b"of December"
        wait_until(lambda: "fresh for ever" in buffy.why(route.url), 30, "the new content is stored")
        asked = route.count
        assert buffy.get(route.url).content == b"of December"
        assert route.count == asked
