"""Times that a test can read: POSIX seconds from text and back, and a clock that stands until it is moved."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

Moment = float | str | datetime
"""POSIX seconds, ISO 8601 text with its offset ("2026-11-25T08:00:00Z"), or an aware datetime."""


def posix(moment: Moment) -> float:
    """POSIX seconds. Raises ValueError for what is no time, or does not say in which zone it is meant."""
    if isinstance(moment, int | float):
        return float(moment)
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if parsed.tzinfo is None:
        raise ValueError(f"{moment} names no zone: add Z for UTC, or an offset such as +01:00")
    return parsed.timestamp()


def utc_text(seconds: float) -> str:
    """The reverse, such as "2026-11-25T08:00:00Z"; "inf" for ever, "-inf" for never."""
    if math.isinf(seconds):
        return str(seconds)
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class Clock:
    """Gives the same time until it is moved; call it where a clock is wanted, or read `now`.

    clock = Clock("2026-11-25T08:00:00Z")
    clock.advance(days=2)
    assert str(clock) == "2026-11-27T08:00:00Z"
    """

    def __init__(self, now: Moment) -> None:
        self.now = posix(now)

    def __call__(self) -> float:
        return self.now

    def set(self, now: Moment) -> float:
        """Jumps, backwards too, as clocks of real machines do. Gives the new time."""
        self.now = posix(now)
        return self.now

    def advance(self, seconds: float = 0, *, minutes: float = 0, hours: float = 0, days: float = 0) -> float:
        """Moves by the sum of its arguments. Gives the new time."""
        step = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        return self.set(self.now + step.total_seconds())

    def __str__(self) -> str:
        return utc_text(self.now)

    def __repr__(self) -> str:
        return f"Clock({str(self)!r})"
