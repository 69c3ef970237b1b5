"""Times as text and back, and the clock that stands."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.testing import Clock, Moment, posix, utc_text

TEN = datetime(2026, 11, 25, 10, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (12, 12.0),
        (0.5, 0.5),
        (math.inf, math.inf),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-01 00:01:00.250Z", 60.25),
        (datetime(1970, 1, 2, tzinfo=UTC), 86400.0),
    ],
)
def test_posix(moment: Moment, seconds: float) -> None:
    assert posix(moment) == seconds


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-11-25T08:00:00", "names no zone: add Z"),
        ("2026-11-25", "names no zone"),
        (datetime(2026, 11, 25), "names no zone"),
        ("tomorrow", "tomorrow"),
    ],
)
def test_what_is_no_time_is_refused(moment: Moment, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        posix(moment)


@given(st.integers(0, 4_000_000_000).map(float) | st.sampled_from([0.25, 1e9 + 0.5]))
def test_text_and_back(seconds: float) -> None:
    assert posix(utc_text(seconds)) == seconds
    assert utc_text(seconds).endswith("Z")


def test_text_without_an_end() -> None:
    assert (utc_text(math.inf), utc_text(-math.inf)) == ("inf", "-inf")


def test_a_clock_stands_until_it_is_moved() -> None:
    clock = Clock(TEN)
    assert clock() == clock.now == posix("2026-11-25T08:00:00Z")
    assert clock.advance(30, minutes=1, hours=1, days=1) == clock() == posix("2026-11-26T09:01:30Z")
    assert (str(clock), repr(clock)) == ("2026-11-26T09:01:30Z", "Clock('2026-11-26T09:01:30Z')")
    assert clock.set("2026-01-01T00:00:00Z") == clock() == posix("2026-01-01T00:00:00Z")
    assert clock.advance(-1) == posix("2025-12-31T23:59:59Z")
