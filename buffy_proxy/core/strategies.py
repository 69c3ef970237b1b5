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
from buffy_proxy.core.freshness import fresh_for, freshness_lifetime, has_validator
from buffy_proxy.core.model import Version
from buffy_proxy.core.said import TARGETS


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

    @property
    def strategy_name(self) -> str: ...

    @property
    def obeys_origin(self) -> bool: ...

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        """`url` is that of the resource, without secrets."""


@dataclass(frozen=True, slots=True)
class BaseStrategy:
    """What most strategies of plugins build on: say `fresh_until`, and override the rest where it matters.

    A subclass is a frozen dataclass. Its fields are the parameters people may set; each has a default, whose
    type is checked, and `__post_init__` may refuse values with a ValueError that says what is allowed. All
    methods are pure: same values in, same answer out; `now` and all times are POSIX seconds in UTC; `url` is
    the resource's, without secrets.
    """

    strategy_name: ClassVar[str] = ""
    obeys_origin: ClassVar[bool] = False

    def fresh_until(self, version: Version, now: float, url: str) -> float:
        """Until when the version answers without asking the origin (math.inf: for ever)."""
        raise NotImplementedError

    def refresh_at(self, version: Version, now: float, url: str) -> float | None:
        """When the background renews it; None: only when somebody asks after `fresh_until`."""
        return None

    def renewal(self, version: Version, now: float, url: str) -> Renewal:
        """How it is renewed: with a conditional request where the version has a validator."""
        return Renewal.VALIDATE if has_validator(version.fields) else Renewal.REFETCH

    def reason(self, version: Version, now: float, url: str) -> str:
        """The plan in words, for `buffy why`."""
        return f"as {self.strategy_name} says"

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        until = self.fresh_until(version, now, url)
        at = self.refresh_at(version, now, url)
        return Plan(until, at, self.renewal(version, now, url), self.reason(version, now, url))


# -- the five documented strategies, and http ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Never:
    """Fetched once, then served for ever."""

    strategy_name: ClassVar[str] = "never"
    obeys_origin: ClassVar[bool] = False

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        return Plan(math.inf, None, Renewal.REFETCH, "never re-fetched")


@dataclass(frozen=True, slots=True)
class Age:
    """Re-fetched in the background once the newest version is older than `seconds`."""

    strategy_name: ClassVar[str] = "age"
    obeys_origin: ClassVar[bool] = False
    seconds: int = 3600

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
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

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        return _until(next_cron_time(self.cron, version.validated_at), f"re-fetched at cron {self.cron!r}")


@dataclass(frozen=True, slots=True)
class WhenRequested:
    """Re-fetched whenever somebody asks; the stored version is the fallback when that fails."""

    strategy_name: ClassVar[str] = "when_requested"
    obeys_origin: ClassVar[bool] = False

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        return Plan(version.validated_at, None, Renewal.REFETCH, "re-fetched whenever it is requested")


@dataclass(frozen=True, slots=True)
class WhenRemoteChanged:
    """At most once per interval, when somebody asks, the origin is asked whether it changed (ETag, then
    Last-Modified, then size). An origin that tells nothing of these: like `Age(fallback_max_age_sec)`."""

    strategy_name: ClassVar[str] = "when_remote_changed"
    obeys_origin: ClassVar[bool] = False
    check_interval_sec: int = 21600
    fallback_max_age_sec: int = 86400

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
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
    """What the origin's own fields say: the freshness lifetime of RFC 9111 §4.2, then validation.

    targets  names of targeted fields that go before Cache-Control, in order of preference (RFC 9213)
    strict   True: stale answers only where the origin allows them (RFC 5861), also when the origin fails
    """

    strategy_name: ClassVar[str] = "http"
    obeys_origin: ClassVar[bool] = True
    targets: tuple[str, ...] = TARGETS
    strict: bool = False

    def __post_init__(self) -> None:
        for name in self.targets:
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise ValueError(f"targets: {name!r} is no name of a field")

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        renewal = Renewal.VALIDATE if has_validator(version.fields) else Renewal.REFETCH
        seconds, source = freshness_lifetime(version, self.targets)
        return Plan(fresh_for(version, seconds), None, renewal, f"as the origin says: {source}")


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

BUILT_IN: Final = (Never, Age, Cron, WhenRequested, WhenRemoteChanged, Http)
STRATEGIES: Final[Mapping[str, type[Any]]] = {s.strategy_name: s for s in BUILT_IN}
"""All built-in strategies by `strategy_name`. The table with those of plugins is `Plugins.strategies`."""


def from_json(value: Mapping[str, Any], strategies: Mapping[str, type[Any]] = STRATEGIES) -> Strategy:
    """The strategy that `{"strategy_name": …, parameters}` describes, with defaults for the rest.

    Raises ValueError that says what is wrong, which name, and what is allowed.
    """
    name = value.get("strategy_name")
    if not isinstance(name, str) or name not in strategies:
        raise ValueError(f"strategy_name: {name!r} is unknown; allowed are {', '.join(sorted(strategies))}")
    kind = strategies[name]
    known = {f.name: f for f in fields(kind)}
    parameters = {}
    for key, given in value.items():
        if key == "strategy_name":
            continue
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{name}: parameter {key!r} is unknown; allowed are: {allowed}")
        parameters[key] = _checked(f"{name}.{key}", given, known[key].default)
    try:
        return kind(**parameters)  # type: ignore[no-any-return]
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None


def _checked(what: str, given: Any, default: object) -> Any:
    """The value, of the type of the default, where there is one. A bool is no int, an int is a float, a list
    of JSON or TOML is a tuple; durations are not negative."""
    if type(default) is float and type(given) is int:
        given = float(given)
    if type(default) is tuple and isinstance(given, list):
        given = tuple(given)
    if default is not MISSING and type(given) is not type(default):
        raise ValueError(f"{what}: {given!r} is not of type {type(default).__name__}")
    if isinstance(given, int | float) and given < 0:
        raise ValueError(f"{what}: {given!r} is negative; seconds from 0 on are allowed")
    return given


def to_json(strategy: Strategy) -> dict[str, Any]:
    """`{"strategy_name": …}` with all parameters; from_json gives the same strategy back."""
    plain: Any = getattr(strategy, "inner", strategy)  # plugins/guard.py wraps those of plugins
    parameters = asdict(plain)
    if isinstance(plain, Http):  # what only experts set is not shown to everybody
        usual = asdict(Http())
        parameters = {name: value for name, value in parameters.items() if value != usual[name]}
    return {"strategy_name": strategy.strategy_name, **parameters}
