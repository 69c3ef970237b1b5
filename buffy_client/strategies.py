"""How a request is cached: the five documented strategies, and the configuration that holds one.

These are a user's own values, so they may be changed until they are handed to a request, which takes a copy.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(slots=True)
class Strategy:
    """Base of all strategies. `strategy_name` is its name on the wire."""

    strategy_name: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        return {"strategy_name": self.strategy_name, **asdict(self)}


class ReCachingStrategy:
    """The strategies; `ReCachingStrategy.age(seconds=3601)` makes one."""

    @dataclass(slots=True)
    class never(Strategy):
        """Fetched once, then served for ever."""

        strategy_name: ClassVar[str] = "never"

    @dataclass(slots=True)
    class age(Strategy):
        """Fetched again in the background once the newest version is older than `seconds`."""

        strategy_name: ClassVar[str] = "age"
        seconds: int = 3600

    @dataclass(slots=True)
    class cron(Strategy):
        """Fetched again in the background at the times of the cron expression; with `run_at_start` also
        once when the server starts."""

        strategy_name: ClassVar[str] = "cron"
        cron: str = "0 0 * * *"
        run_at_start: bool = True

    @dataclass(slots=True)
    class when_requested(Strategy):
        """Fetched at each order; the stored version answers when that fails."""

        strategy_name: ClassVar[str] = "when_requested"

    @dataclass(slots=True)
    class when_remote_changed(Strategy):
        """The origin is asked at most once in `check_interval_sec`, and its content fetched only if it
        changed. Where the origin gives no validator: as `age` with `fallback_max_age_sec` seconds."""

        strategy_name: ClassVar[str] = "when_remote_changed"
        check_interval_sec: int = 21_600
        fallback_max_age_sec: int = 86_400

    @dataclass(slots=True)
    class other(Strategy):
        """A strategy that this client does not know by name, such as one of a plugin; `custom` makes one."""

        name: str = ""
        parameters: dict[str, Any] = field(default_factory=dict)

        def to_json(self) -> dict[str, Any]:
            return {"strategy_name": self.name, **self.parameters}

    @classmethod
    def custom(cls, name: str, **parameters: Any) -> Strategy:
        """A strategy of a plugin of the server: `custom("release_days", time="09:00")`. What the server
        does not know it refuses with BuffyServerError when the request is ordered."""
        return cls.other(name, parameters)

    @classmethod
    def list(cls) -> builtins.list[type[Strategy]]:
        """The documented strategies."""
        return [cls.never, cls.age, cls.cron, cls.when_requested, cls.when_remote_changed]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Strategy:
        """Fields that a known strategy does not have are ignored; unknown strategies become `other`."""
        given = {name: item for name, item in value.items() if name != "strategy_name"}
        for kind in cls.list():
            if kind.strategy_name == value.get("strategy_name"):
                known = {item.name for item in fields(kind)}
                return kind(**{name: item for name, item in given.items() if name in known})
        return cls.other(str(value.get("strategy_name")), given)


@dataclass(slots=True)
class RequestCacheConfiguration:
    """When the server fetches a request again and how many versions it keeps.

    Older versions beyond `max_cached_unpinned_versions` are dropped, pinned ones beyond
    `max_cached_pinned_versions`. `request_id` is filled in by the server.
    """

    recaching_strategy: Strategy = field(default_factory=ReCachingStrategy.when_remote_changed)
    max_cached_unpinned_versions: int = 2
    max_cached_pinned_versions: int = 10
    request_id: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "recaching_strategy": self.recaching_strategy.to_json(),
            "max_cached_unpinned_versions": self.max_cached_unpinned_versions,
            "max_cached_pinned_versions": self.max_cached_pinned_versions,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RequestCacheConfiguration:
        known = {item.name for item in fields(cls)} & value.keys()
        given = {name: value[name] for name in known}
        if "recaching_strategy" in given:
            given["recaching_strategy"] = ReCachingStrategy.from_json(given["recaching_strategy"])
        return cls(**given)
