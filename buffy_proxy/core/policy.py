"""What applies to a request: strategy, retention and key options together, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from buffy_proxy.core.model import Retention
from buffy_proxy.core.strategies import Strategy

SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Policy:
    """The outcome of matching a request against `buffy.toml` (or of an explicit order).

    ignore_query  fnmatch patterns of query parameters that leave the cache key ("utm_*")
    methods       which methods may be answered from the store; others are forwarded
    shared        True: credentials do not partition the key (only where a rule says so)
    replay_set_cookie  True: a stored Set-Cookie goes to whoever gets the response (only where a rule says so)
    source        for humans: `rule 2 ("https://…/**")`, `default`, `order`
    """

    strategy: Strategy
    retention: Retention = field(default_factory=Retention)
    ignore_query: tuple[str, ...] = ()
    methods: frozenset[str] = SAFE_METHODS
    shared: bool = False
    replay_set_cookie: bool = False
    source: str = "default"

    @property
    def targets(self) -> tuple[str, ...]:
        """The targeted fields that count for this resource (RFC 9213); none under most strategies."""
        return getattr(self.strategy, "targets", ())

    @property
    def strict(self) -> bool:
        """Whether stale answers need the origin's leave even when it fails."""
        return getattr(self.strategy, "strict", False)
