"""Sources that publish by the calendar: `release_days` and `business_hours`.

    [[rule]]                                # a statistic that comes out on the first working day of a month
    match = "https://stats.example.org/**"
    [rule.strategy]
    strategy_name = "release_days"
    day = "first working day"
    time = "08:00"
    zone = "Europe/Berlin"
    holidays = ["01-01", "05-01", "2027-03-26"]

    [[rule]]                                # prices that move while a market is open
    match = "https://prices.example.org/**"
    strategy = { strategy_name = "business_hours", opens = "09:00", closes = "17:30", seconds = 60 }

`day` is "first", "2nd", "third", "10th" …, "last" or "every", and "day", "working day" or a day of the week;
or a number (31 is the last day of a shorter month); or "" for none but the `dates` that are named. `months`
are those of the releases (all by default; [3, 6, 9, 12] for quarters). `shift` = "next" or "previous" moves a
release from a weekend or holiday to a working day. `holidays` are no working days; they and `dates` are
"2026-12-24", or "12-24" for each year. Times are wall clock times of `zone`, through summer time and back.

Publishers are late: as long as a release has brought nothing new, it is looked for every `retry_seconds`,
until `late_seconds` after its time (0: once, at its time).
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from buffy_proxy import BaseStrategy, Plan, Version, hookimpl

__version__ = "1.0"

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1}
NTH = r"[1-9]\d?(?:st|nd|rd|th)"
DAY = re.compile(
    rf"({'|'.join(ORDINALS)}|every|{NTH}) (day|working day|{'|'.join(WEEKDAYS)})|[1-9]|[12]\d|3[01]|"
)
STEPS = {"": 0, "next": 1, "previous": -1}
SEARCHED_YEARS = 9
"""29 February may be eight years away (2096 to 2104); a calendar without a release for longer has none."""
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ReleaseDays(BaseStrategy):
    """Fresh until the next release, and renewed in the background then; for ever after the last one."""

    strategy_name = "release_days"
    day: str = "first working day"
    time: str = "09:00"
    zone: str = "UTC"
    months: tuple = ()  # type: ignore[type-arg]
    shift: str = ""
    dates: tuple = ()  # type: ignore[type-arg]
    holidays: tuple = ()  # type: ignore[type-arg]
    retry_seconds: int = 600
    late_seconds: int = 3600

    def __post_init__(self) -> None:
        if not DAY.fullmatch(self.day):
            raise ValueError(
                f"day: {self.day!r} is none; write 'first working day', 'last friday', '10th day', '15' or ''"
            )
        if not self.day and not self.dates:
            raise ValueError("day: '' needs dates")
        if wrong := [month for month in self.months if type(month) is not int or not 1 <= month <= 12]:
            raise ValueError(f"months: {wrong[0]!r} is no month; 1 to 12 are")
        if self.shift not in STEPS:
            raise ValueError(f"shift: {self.shift!r} is unknown; allowed are 'next', 'previous' and ''")
        if self.retry_seconds < 1:
            raise ValueError("retry_seconds: 0 would ask without a pause; write 1 or more")
        self._check_calendar()

    def _check_calendar(self) -> None:
        clock_time("time", self.time)
        time_zone(self.zone)
        for name in ("dates", "holidays"):
            calendar_days(name, getattr(self, name))
        if self.day and next(self._ruled(date(2024, 1, 1)), None) is None:
            raise ValueError(f"day: {self.day!r}, with these months and holidays, never comes")

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        until = self.next_release(version.validated_at)
        if self._awaited(version):
            until = min(until, version.validated_at + self.retry_seconds)
            why = f"a release is late, so it is looked for every {self.retry_seconds} s"
        elif until == math.inf:
            why = "no further release is named: kept until dates has one"
        else:
            why = f"the next release is on {in_words(until, self.zone)}"
        at = until if until < math.inf else None
        return Plan(until, at, self.renewal(version, now, url), why)

    def _awaited(self, version: Version) -> bool:
        """Whether a release that may still be late has passed since this content came."""
        since = max(version.cached_at, version.validated_at - self.late_seconds)
        return self.next_release(since) <= version.validated_at

    def next_release(self, after: float) -> float:
        """The first release later than `after`, both POSIX s; inf if there is none."""
        zone, at = time_zone(self.zone), clock_time("time", self.time)
        # From the day before: a place that skips a day (Samoa, 2011) has its release on the next.
        start = datetime.fromtimestamp(after, zone).date() - ONE_DAY
        days = heapq.merge(self._ruled(start), days_from(calendar_days("dates", self.dates), start))
        moments = (datetime.combine(day, at, zone).timestamp() for day in days)
        return next((moment for moment in moments if moment > after), math.inf)

    def _ruled(self, start: date) -> Iterator[date]:
        """The days that `day` means, in order, from the month before `start` on: one may be shifted into the
        next month."""
        holidays = calendar_days("holidays", self.holidays)
        month = (start.replace(day=1) - ONE_DAY).replace(day=1)
        for _ in range(12 * SEARCHED_YEARS if self.day else 0):
            if not self.months or month.month in self.months:
                yield from (self._shifted(day, holidays) for day in self._of_month(month, holidays))
            month = next_month(month)

    def _of_month(self, month: date, holidays: frozenset[str]) -> list[date]:
        days = [month + timedelta(days=n) for n in range((next_month(month) - month).days)]
        if self.day.isdigit():
            return [days[min(int(self.day), len(days)) - 1]]
        which, _, kind = self.day.partition(" ")
        fitting = [day for day in days if is_a(kind, day, holidays)]
        if which == "every":
            return fitting
        at = ORDINALS[which] if which in ORDINALS else int(which[:-2]) - 1
        return fitting[at:][:1]

    def _shifted(self, day: date, holidays: frozenset[str]) -> date:
        moved, step = day, STEPS[self.shift]
        for _ in range(31 if step else 0):
            if is_a("working day", moved, holidays):
                return moved
            moved += step * ONE_DAY
        return day


@dataclass(frozen=True)
class BusinessHours(BaseStrategy):
    """While the source is at work: fresh for `seconds`, and looked at once more after closing time. Else
    fresh until it opens again. Where `closes` is not after `opens`, it is on the next day; `days` are those
    of opening."""

    strategy_name = "business_hours"
    opens: str = "08:00"
    closes: str = "18:00"
    days: tuple = WEEKDAYS[:5]  # type: ignore[type-arg]
    zone: str = "UTC"
    seconds: int = 3600
    holidays: tuple = ()  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        clock_time("opens", self.opens)
        clock_time("closes", self.closes)
        if not self.days or [day for day in self.days if day not in WEEKDAYS]:
            raise ValueError(f"days: must be some of {', '.join(WEEKDAYS)}, not {self.days!r}")
        time_zone(self.zone)
        calendar_days("holidays", self.holidays)

    def fresh_until(self, version: Version, now: float, url: str) -> float:
        at = version.validated_at
        for opens, closes in self._sessions(at):
            if at < opens:
                return opens
            if at < closes:
                return min(at + self.seconds, closes)
        return math.inf

    def reason(self, version: Version, now: float, url: str) -> str:
        until = self.fresh_until(version, now, url)
        when = (
            f"asked again from {in_words(until, self.zone)} on" if until < math.inf else "never asked again"
        )
        return f"{when}, by its business hours"

    def _sessions(self, at: float) -> Iterator[tuple[float, float]]:
        """When it opens and closes (POSIX s), for years, from what may still be open at that time."""
        zone, holidays = time_zone(self.zone), calendar_days("holidays", self.holidays)
        opens, closes = clock_time("opens", self.opens), clock_time("closes", self.closes)
        over_night = ONE_DAY * (closes <= opens)
        first = datetime.fromtimestamp(at, zone).date() - ONE_DAY
        for day in (first + timedelta(days=n) for n in range(366 * SEARCHED_YEARS)):
            if WEEKDAYS[day.weekday()] in self.days and not is_among(day, holidays):
                ends = datetime.combine(day + over_night, closes, zone)
                yield datetime.combine(day, opens, zone).timestamp(), ends.timestamp()


# -- calendars, and reading what people write ---------------------------------------------------------------


def clock_time(name: str, text: str) -> time:
    """ "08:30" or "08:30:15"; ValueError says what is allowed."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", text):
        raise ValueError(f"{name}: {text!r} is no time of day; write '08:30' or '17:00'")
    return time.fromisoformat(text)


def time_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"zone: {name!r} is no time zone; write 'Europe/Berlin' or 'UTC'") from error


def calendar_days(name: str, texts: tuple) -> frozenset[str]:  # type: ignore[type-arg]
    """ "2026-12-24" and "12-24", checked."""
    for text in texts:
        if (
            not isinstance(text, str)
            or not re.fullmatch(r"(\d{4}-)?\d\d-\d\d", text)
            or parsed(text, 2024) is None
        ):
            raise ValueError(f"{name}: {text!r} is no day; write '2026-12-24', or '12-24' for every year")
    return frozenset(texts)


def parsed(text: str, year: int) -> date | None:
    """The day, in that year unless it names its own; None for one that is not in the calendar."""
    try:
        return date.fromisoformat(text if len(text) == 10 else f"{year}-{text}")
    except ValueError:
        return None


def days_from(named: frozenset[str], start: date) -> list[date]:
    """The named days in order; those of every year from that of `start` on, for nine years."""
    years = range(start.year, start.year + SEARCHED_YEARS)
    found = {parsed(text, year) for text in named for year in (years if len(text) == 5 else (0,))}
    return sorted(day for day in found if day is not None)


def is_a(kind: str, day: date, holidays: frozenset[str]) -> bool:
    if kind == "working day":
        return day.weekday() < 5 and not is_among(day, holidays)
    return kind == "day" or WEEKDAYS[day.weekday()] == kind


def is_among(day: date, named: frozenset[str]) -> bool:
    return bool(named) and (day.isoformat() in named or day.isoformat()[5:] in named)


def next_month(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


def in_words(moment: float, zone: str) -> str:
    return f"{datetime.fromtimestamp(moment, time_zone(zone)):%Y-%m-%d at %H:%M} ({zone})"


@hookimpl
def register_strategies() -> list[type[BaseStrategy]]:
    return [ReleaseDays, BusinessHours]
