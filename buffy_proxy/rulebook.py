"""The `[[rule]]` tables of `buffy.toml`: which policy applies to which URLs. The first match wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buffy_proxy import literals
from buffy_proxy.core.model import Retention
from buffy_proxy.core.policy import SAFE_METHODS, Policy
from buffy_proxy.core.strategies import Http, Strategy, from_json, to_json
from buffy_proxy.errors import ConfigError
from buffy_proxy.patterns import compile_glob
from buffy_proxy.settings import SETTINGS, did_you_mean

METHODS = ("GET", "HEAD", "POST", "PUT", "PROPFIND", "QUERY", "REPORT", "SEARCH")
"""What may be answered from the store. The others change things or are about the connection."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[rule]]`, for the policy's methods on URLs that match the glob. ValueError for a bad glob."""

    match: str
    policy: Policy
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", compile_glob(self.match))


MakeStrategy = Callable[[Mapping[str, Any]], Strategy]


def read_rules(
    tables: Sequence[object],
    retention: Retention,
    source: str,
    make_strategy: MakeStrategy = from_json,
    http: Http | None = None,
) -> tuple[Rule, ...]:
    """`retention` and `http` apply where a rule says nothing (more) about them; `make_strategy` knows
    those of plugins, too. Raises ConfigError."""
    http = http or Http()

    def make(value: Mapping[str, Any]) -> Strategy:
        return http if value == {"strategy_name": "http"} else make_strategy(value)

    return tuple(
        _read_rule(table, f"{source}: rule {number}", number, retention, make)
        for number, table in enumerate(tables, start=1)
    )


def dump_rule(rule: Rule) -> dict[str, Any]:
    """A rule as JSON, with everything it leaves to defaults."""
    policy = rule.policy
    return {
        "match": rule.match,
        "strategy": to_json(policy.strategy),
        "max_cached_unpinned_versions": policy.retention.max_cached_unpinned_versions,
        "max_cached_pinned_versions": policy.retention.max_cached_pinned_versions,
        "ignore_query": list(policy.ignore_query),
        "methods": sorted(policy.methods),
        "shared": policy.shared,
        "replay_set_cookie": policy.replay_set_cookie,
    }


def _glob(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a URL pattern such as 'https://example.org/**', not {value!r}")
    compile_glob(value)
    return value


def _strategy(value: object, make_strategy: MakeStrategy) -> Strategy:
    if isinstance(value, str):
        value = {"strategy_name": value}
    if not isinstance(value, Mapping):
        raise ValueError(
            'must be a name such as "never" or a table such as { strategy_name = "age", seconds = 60 },'
            f" not {value!r}"
        )
    return make_strategy(value)


def _methods(value: object) -> frozenset[str]:
    methods = frozenset(item.upper() for item in literals.texts(value))
    unknown = sorted(methods - set(METHODS))
    if unknown or not methods:
        raise ValueError(f"may hold {', '.join(METHODS)}; not {', '.join(unknown) or 'nothing'}")
    return methods


_READERS: Mapping[str, Callable[[object], Any]] = {
    "match": _glob,
    "max_cached_unpinned_versions": literals.integer(1),
    "max_cached_pinned_versions": literals.integer(1),
    "ignore_query": literals.texts,
    "methods": _methods,
    "shared": literals.boolean,
    "replay_set_cookie": literals.boolean,
}


def _read_rule(
    table: object, where: str, number: int, retention: Retention, make_strategy: MakeStrategy
) -> Rule:
    readers = {**_READERS, "strategy": lambda value: _strategy(value, make_strategy)}
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table, not {table!r}")
    if "match" not in table:
        raise ConfigError(f"{where}: match is missing: the URL pattern that the rule is for")
    found = {key: _read(readers, key, written, where) for key, written in table.items()}
    kept = {
        key: value
        for key in ("max_cached_unpinned_versions", "max_cached_pinned_versions")
        if (value := found.get(key))
    }
    policy = Policy(
        strategy=found.get("strategy") or make_strategy({"strategy_name": "http"}),
        retention=Retention(**{**_as_dict(retention), **kept}),
        ignore_query=found.get("ignore_query", ()),
        methods=found.get("methods", SAFE_METHODS),
        shared=found.get("shared", False),
        replay_set_cookie=found.get("replay_set_cookie", False),
        source=f'rule {number} ("{found["match"]}")',
    )
    return Rule(found["match"], policy)


def _read(readers: Mapping[str, Callable[[object], Any]], key: str, written: object, where: str) -> Any:
    reader = readers.get(key)
    if reader is None:
        if key in SETTINGS:
            raise ConfigError(
                f"{where}: {key} is no key of a rule; write it above the first [table] of the file"
            )
        raise ConfigError(f"{where}: {key}: unknown key; {did_you_mean(key, readers)}")
    try:
        return reader(written)
    except ValueError as error:
        raise ConfigError(f"{where}: {key}: {error}") from error


def _as_dict(retention: Retention) -> dict[str, int]:
    return {
        "max_cached_unpinned_versions": retention.max_cached_unpinned_versions,
        "max_cached_pinned_versions": retention.max_cached_pinned_versions,
    }
