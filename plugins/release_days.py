"""Sources that publish by the calendar: `release_days` and `business_hours`.

    [[rule]]                                  # a statistic that comes out on the first working day of a month
    match = "https://stats.example.org/**"
    strategy = { strategy_name = "release_days", day = "first working day", time = "08:00",
                 zone = "Europe/Berlin", holidays = ["01-01", "05-01"] }

    [[rule]]                                  # prices that move while a market is open
    match = "https://prices.example.org/**"
    strategy = { strategy_name = "business_hours", opens = "09:00", closes = "17:30", zone = "Europe/Berlin",
                 seconds = 60 }

`day` is "first", "second", "third", "fourth" or "last" and "day", "working day" or a day of the week, or a
number (31 is the last day of a shorter month), or "" for none but the `dates` that are named. `months` are
those of the releases (all by default). `holidays` are no working days; they and `dates` are "2026-12-24", or
"12-24" for each year. Times are wall clock times of `zone`, through summer time and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from buffy_proxy import BaseStrategy, Version, hookimpl

__version__ = "1.0"

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
DAY = re.compile(rf"({'|'.join(ORDINALS)}) (day|working day|{'|'.join(WEEKDAYS)})|([1-9]|[12]\d|3[01])|")
SEARCHED_DAYS = 366 * 30
"""A calendar that holds no release for so long (29 February, with holidays) holds none."""


@dataclass(frozen=True)
class ReleaseDays(BaseStrategy):
    """Fresh until the next release, and renewed in the background then."""

    strategy_name = "release_days"
    day: str = "first working day"
    time: str = "09:00"
    zone: str = "UTC"
    months: tuple = ()  # type: ignore[type-arg]
    dates: tuple = ()  # type: ignore[type-arg]
    holidays: tuple = ()  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if not DAY.fullmatch(self.day):
            raise ValueError(
                f"day: {self.day!r} is none; write 'first working day', 'last friday', '15' or ''"
            )
        if not self.day and not self.dates:
            raise ValueError("day: '' needs dates")
        if wrong := [month for month in self.months if month not in range(1, 13) or month is True]:
            raise ValueError(f"months: {wrong[0]!r} is no month; 1 to 12 are")
        clock_time("time", self.time)
        time_zone(self.zone)
        for name in ("dates", "holidays"):
            calendar_days(name, getattr(self, name))
        self.next_release(datetime(2024, 1, 1, tzinfo=time_zone(self.zone)).timestamp())

    def fresh_until(self, version: Version, now: float, url: str) -> float:
        return self.next_release(version.validated_at)

    def refresh_at(self, version: Version, now: float, url: str) -> float:
        return self.next_release(version.validated_at)

    def reason(self, version: Version, now: float, url: str) -> str:
        until = datetime.fromtimestamp(self.next_release(version.validated_at), time_zone(self.zone))
        return f"the next release is on {until:%Y-%m-%d at %H:%M} ({self.zone})"

    def next_release(self, after: float) -> float:
        """The first release later than `after`, both POSIX s. ValueError if there is none in thirty years."""
        zone, at = time_zone(self.zone), clock_time("time", self.time)
        # From the day before: a wall clock may be behind the day of `after`.
        start = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
        for day in self._days(start):
            moment = datetime.combine(day, at, zone).timestamp()
            if moment > after:
                return moment
        raise ValueError("day, months and holidays leave no release in thirty years")

    def _days(self, start: date) -> Iterator[date]:
        """The days of releases from `start` on."""
        end = start + timedelta(days=SEARCHED_DAYS)
        named, month = calendar_days("dates", self.dates), start.replace(day=1)
        while month < end:
            found = {self._of_month(month)} | {day for day in days_of(month) if is_among(day, named)}
            yield from sorted(day for day in found if day is not None and day >= start)
            month = next_month(month)

    def _of_month(self, month: date) -> date | None:
        if not self.day or (self.months and month.month not in self.months):
            return None
        days = days_of(month)
        if self.day.isdigit():
            return days[min(int(self.day), len(days)) - 1]
        which, _, kind = self.day.partition(" ")
        fitting = [day for day in days if self._is(day, kind)]
        return fitting[ORDINALS[which]] if len(fitting) > ORDINALS[which] and fitting else None

    def _is(self, day: date, kind: str) -> bool:
        if kind == "working day":
            return day.weekday() < 5 and not is_among(day, calendar_days("holidays", self.holidays))
        return kind == "day" or WEEKDAYS[day.weekday()] == kind


@dataclass(frozen=True)
class BusinessHours(BaseStrategy):
    """While the source is at work: fresh for `seconds`, and looked at once more at closing time. Else fresh
    until it opens again."""

    strategy_name = "business_hours"
    opens: str = "08:00"
    closes: str = "18:00"
    days: tuple = WEEKDAYS[:5]  # type: ignore[type-arg]
    zone: str = "UTC"
    seconds: int = 3600
    holidays: tuple = ()  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if clock_time("opens", self.opens) >= clock_time("closes", self.closes):
            raise ValueError(f"closes: {self.closes!r} is not after opens, {self.opens!r}")
        if not self.days or not set(self.days) <= set(WEEKDAYS):
            raise ValueError(f"days: must be some of {', '.join(WEEKDAYS)}, not {self.days!r}")
        time_zone(self.zone)
        calendar_days("holidays", self.holidays)

    def fresh_until(self, version: Version, now: float, url: str) -> float:
        at, zone = version.validated_at, time_zone(self.zone)
        day = datetime.fromtimestamp(at, zone).date() - timedelta(days=1)
        for _ in range(SEARCHED_DAYS):
            if self._works(day):
                opens, closes = (
                    datetime.combine(day, clock_time("opens", text), zone).timestamp()
                    for text in (self.opens, self.closes)
                )
                if at < opens:
                    return opens
                if at < closes:
                    return min(at + self.seconds, closes)
            day += timedelta(days=1)
        raise ValueError("days and holidays leave no working day in thirty years")

    def _works(self, day: date) -> bool:
        holidays = calendar_days("holidays", self.holidays)
        return WEEKDAYS[day.weekday()] in self.days and not is_among(day, holidays)

    def reason(self, version: Version, now: float, url: str) -> str:
        until = datetime.fromtimestamp(self.fresh_until(version, now, url), time_zone(self.zone))
        return f"asked again on {until:%Y-%m-%d at %H:%M} ({self.zone}), business hours"


# -- reading what people write ------------------------------------------------------------------------------


def clock_time(name: str, text: str) -> time:
    """ "08:30"; ValueError says what is allowed."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
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
        whole = f"2024-{text}" if isinstance(text, str) and len(text) == 5 else text
        try:
            if not isinstance(whole, str) or len(whole) != 10:
                raise ValueError
            date.fromisoformat(whole)
        except ValueError:
            raise ValueError(
                f"{name}: {text!r} is no day; write '2026-12-24', or '12-24' for every year"
            ) from None
    return frozenset(texts)


def is_among(day: date, named: frozenset[str]) -> bool:
    return bool(named) and (day.isoformat() in named or f"{day:%m-%d}" in named)


def days_of(month: date) -> list[date]:
    return [month + timedelta(days=n) for n in range((next_month(month) - month).days)]


def next_month(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


@hookimpl
def register_strategies() -> list[type[BaseStrategy]]:
    return [ReleaseDays, BusinessHours]
