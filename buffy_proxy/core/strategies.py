"""The recaching strategies: pure functions that say, when a version is stored, how long it may answer.

A strategy never runs when a hit is served: its two numbers stand in the version's record, so a hit compares
one float and the scheduler walks an index ordered by time (docs/architecture.md, "decide when storing").
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol

from croniter import croniter
from croniter.croniter import CroniterError

from buffy_proxy.core.fields import first
from buffy_proxy.core.freshness import fresh_until, freshness_lifetime, has_validator
from buffy_proxy.core.model import Version


class Renewal(enum.Enum):
    """How a version that may no longer answer by itself is renewed."""

    REFETCH = "re-fetch"  # an unconditional request
    VALIDATE = "validate"  # a conditional request with the version's ETag or Last-Modified
    COMPARE_SIZE = "compare size"  # a HEAD request; re-fetch only if Content-Length differs


@dataclass(frozen=True, slots=True)
class Plan:
    """What a strategy decides for one version.

    fresh_until  POSIX s until when the version answers without asking (inf: for ever)
    refresh_at   POSIX s at which the background renews it; None: only when somebody asks
    renewal      how it is renewed
    reason       why, as the end of a sentence: "re-fetched once it is older than 3600 s"
    """

    fresh_until: float
    refresh_at: float | None
    renewal: Renewal
    reason: str


class Strategy(Protocol):
    """What a recaching strategy is. Instances are frozen; `plan` is pure.

    obeys_origin  True: RFC 9111 decides what may be stored (no-store, private …) and stale answers need
                  its leave. False: the user asked for this resource to be kept, whatever its headers say.
    """

    strategy_name: ClassVar[str]
    obeys_origin: ClassVar[bool]

    def plan(self, version: Version, now: float) -> Plan: ...


# -- the five documented strategies, and http ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Never:
    """Fetched once, then served for ever."""

    strategy_name: ClassVar[str] = "never"
    obeys_origin: ClassVar[bool] = False

    def plan(self, version: Version, now: float) -> Plan:
        return Plan(math.inf, None, Renewal.REFETCH, "never re-fetched")


@dataclass(frozen=True, slots=True)
class Age:
    """Re-fetched in the background once the newest version is older than `seconds`."""

    strategy_name: ClassVar[str] = "age"
    obeys_origin: ClassVar[bool] = False
    seconds: int = 3600

    def plan(self, version: Version, now: float) -> Plan:
        return _until(
            version.validated_at + self.seconds, f"re-fetched once it is older than {self.seconds} s"
        )


@dataclass(frozen=True, slots=True)
class Cron:
    """Re-fetched in the background at the times of a cron expression, in UTC; a missed time runs once.

    `run_at_start` asks the server to do so once when it starts, too. A bad expression raises ValueError.
    """

    strategy_name: ClassVar[str] = "cron"
    obeys_origin: ClassVar[bool] = False
    cron: str = "0 0 * * *"
    run_at_start: bool = True

    def __post_init__(self) -> None:
        next_cron_time(self.cron, 0.0)

    def plan(self, version: Version, now: float) -> Plan:
        return _until(next_cron_time(self.cron, version.validated_at), f"re-fetched at cron {self.cron!r}")


@dataclass(frozen=True, slots=True)
class WhenRequested:
    """Re-fetched whenever somebody asks; the stored version is the fallback when that fails."""

    strategy_name: ClassVar[str] = "when_requested"
    obeys_origin: ClassVar[bool] = False

    def plan(self, version: Version, now: float) -> Plan:
        return Plan(version.validated_at, None, Renewal.REFETCH, "re-fetched whenever it is requested")


@dataclass(frozen=True, slots=True)
class WhenRemoteChanged:
    """At most once per interval, when somebody asks, the origin is asked whether it changed (ETag, then
    Last-Modified, then size). An origin that tells nothing of these: like `Age(fallback_max_age_sec)`."""

    strategy_name: ClassVar[str] = "when_remote_changed"
    obeys_origin: ClassVar[bool] = False
    check_interval_sec: int = 21600
    fallback_max_age_sec: int = 86400

    def plan(self, version: Version, now: float) -> Plan:
        if has_validator(version.fields):
            renewal = Renewal.VALIDATE
        elif first(version.fields, b"content-length") is not None:
            renewal = Renewal.COMPARE_SIZE
        else:
            seconds = self.fallback_max_age_sec
            return _until(
                version.validated_at + seconds, f"no validator: re-fetched once older than {seconds} s"
            )
        until = version.validated_at + self.check_interval_sec
        return Plan(until, None, renewal, f"checked for changes at most every {self.check_interval_sec} s")


@dataclass(frozen=True, slots=True)
class Http:
    """What the origin's own fields say: the freshness lifetime of RFC 9111 §4.2, then validation."""

    strategy_name: ClassVar[str] = "http"
    obeys_origin: ClassVar[bool] = True

    def plan(self, version: Version, now: float) -> Plan:
        renewal = Renewal.VALIDATE if has_validator(version.fields) else Renewal.REFETCH
        _, source = freshness_lifetime(version)
        return Plan(fresh_until(version), None, renewal, f"as the origin says: {source}")


def _until(moment: float, reason: str) -> Plan:
    """Fresh until `moment`, and re-fetched in the background then."""
    return Plan(moment, moment, Renewal.REFETCH, reason)


def next_cron_time(expression: str, after: float) -> float:
    """The first time (POSIX s, UTC) of the expression that is later than `after`.

    Raises ValueError for what is no cron expression, names no time that ever comes, or is random.
    """
    if re.search(r"\b[RH]\b|\b[RH]\(", expression):
        raise ValueError(f"cron: {expression!r} uses R or H, which give other times at each look")
    try:
        start = datetime.fromtimestamp(math.floor(after), UTC)
        return float(croniter(expression, start, ret_type=float).get_next())
    except (CroniterError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"cron: {expression!r} is no usable cron expression ({error}); use five fields like '0 0 * * *'"
        ) from None


# -- names and JSON -----------------------------------------------------------------------------------------

STRATEGIES: Final[Mapping[str, type[Strategy]]] = {
    s.strategy_name: s for s in (Never, Age, Cron, WhenRequested, WhenRemoteChanged, Http)
}
"""All built-in strategies by `strategy_name`. Plugins keep their own table and pass it to from_json."""


def from_json(value: Mapping[str, Any], strategies: Mapping[str, type[Strategy]] = STRATEGIES) -> Strategy:
    """The strategy that `{"strategy_name": …, parameters}` describes, with defaults for the rest.

    Raises ValueError that says what is wrong, which name, and what is allowed.
    """
    name = value.get("strategy_name")
    if not isinstance(name, str) or name not in strategies:
        raise ValueError(f"strategy_name: {name!r} is unknown; allowed are {', '.join(sorted(strategies))}")
    kind = strategies[name]
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, given in value.items():
        if key == "strategy_name":
            continue
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{name}: parameter {key!r} is unknown; allowed are: {allowed}")
        _check(f"{name}.{key}", given, known[key].default)
    try:
        return kind(**{k: v for k, v in value.items() if k != "strategy_name"})
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None


def _check(what: str, given: object, default: object) -> None:
    """Types are those of the defaults, where there are any. A bool is no int; durations are not negative."""
    if default is not MISSING and type(given) is not type(default):
        raise ValueError(f"{what}: {given!r} is not of type {type(default).__name__}")
    if isinstance(given, int | float) and given < 0:
        raise ValueError(f"{what}: {given!r} is negative; seconds from 0 on are allowed")


def to_json(strategy: Strategy) -> dict[str, Any]:
    """`{"strategy_name": …}` with all parameters; from_json gives the same strategy back."""
    return {"strategy_name": strategy.strategy_name, **asdict(strategy)}  # type: ignore[call-overload]
