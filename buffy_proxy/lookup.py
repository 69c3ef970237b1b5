"""What the store and the configuration say about one request, and `buffy why`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from buffy_proxy.config import Config, policy_for
from buffy_proxy.core import rules, versions
from buffy_proxy.core.model import CacheKey, Request, Resource, Retention, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.plugins import Plugins
from buffy_proxy.store import Store

log = logging.getLogger("buffy.cache")


@dataclass(frozen=True, slots=True)
class Looked:
    """One request with all that is needed to decide about it."""

    request: Request
    key: CacheKey
    policy: Policy
    versions: Sequence[Version]
    error: Version | None
    plugins: Plugins
    stamp: bytes | None = None

    def holds(self, store: Store) -> bool:
        """Whether the store still says the same. Raises StoreError."""
        return store.peek(self.key.id.encode(), None)[0] == self.stamp

    def decide(self, now: float) -> rules.Decision:
        return self.plugins.decide(self.request, self.versions, self.error, self.policy, now)

    @property
    def steady(self) -> bool:
        """Whether the same request gets the same until the store changes or a version gets stale: no pin that
        ends, no error response, no plugin that wants to be asked."""
        asked = self.plugins.deciding or self.plugins.key_hook
        return not asked and self.error is None and all(v.pinned_until is None for v in self.versions)

    def matches(self, version: Version) -> bool:
        """Whether this version answers this request's variant (RFC 9111 §4.1)."""
        return versions.matches(version, self.request.fields, star=not self.policy.strategy.obeys_origin)

    def fallback(self, failure: rules.OriginFailure, now: float) -> Version | None:
        """The stored version that may answer when the origin does not."""
        instead = self.plugins.instead(self.request, self.versions, self.policy, failure, now)
        return instead.version if isinstance(instead, rules.UseStored) else None


def look_up(store: Store, config: Config, request: Request) -> Looked:
    """Reads what the store has for a request; the only reads on the way to a hit are in here."""
    policy = policy_for(config, request.method, request.url)
    key = config.plugins.cache_key(request, policy, store.secret)
    look = store.look(key.id)
    if look.resource is not None and look.versions:
        policy = policy_of(config, request, look.resource)
    return Looked(request, key, policy, look.versions, look.error, config.plugins, look.stamp)


def policy_of(config: Config, request: Request, resource: Resource | None) -> Policy:
    """The explicit configuration of an ordered resource, else the matching rule, else `http`."""
    policy = policy_for(config, request.method, request.url)
    if resource is None or resource.policy is None:
        return policy
    stored, default = resource.policy, policy.retention
    retention = Retention(
        int(stored.get("max_cached_unpinned_versions", default.max_cached_unpinned_versions)),
        int(stored.get("max_cached_pinned_versions", default.max_cached_pinned_versions)),
    )
    try:
        strategy = config.plugins.strategy(stored["recaching_strategy"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # A plugin may be gone. The resource is still there, and its clients want an answer.
        log.warning(
            "the order for %s cannot be followed, %s applies: %r", resource.key.url, policy.source, error
        )
        return policy
    return replace(policy, strategy=strategy, retention=retention, source="its order")


def policy_of_order(config: Config, request: Request, resource: Resource | None) -> Policy:
    """An order may be stored, and answered from the store, whatever its method: its key holds the body."""
    policy = policy_of(config, request, resource)
    return replace(policy, methods=policy.methods | {request.method})


def explain(store: Store, config: Config, request: Request, now: float | None = None) -> str:
    """What a request would get right now, and why, in two sentences."""
    now = time.time() if now is None else now
    looked = look_up(store, config, request)
    strategy = looked.policy.strategy.strategy_name
    return (
        f"{looked.key.method} {looked.key.url} {_outcome(looked, now)}. "
        f"Strategy `{strategy}` by {looked.policy.source}."
    )


def _outcome(looked: Looked, now: float) -> str:
    match looked.decide(now):
        case rules.Serve(version, stale, detail):
            beside = "the stored part" if version.status == 206 else "the stored error response"
            what = f"version {version.name}" if version.name else beside
            why = detail or ("it is stale" if stale else _fresh(looked, version, now))
            return f"would be answered from the store with {what}: {why}"
        case rules.Unavailable(reason):
            return f"would be answered 504: {reason}"
        case rules.Validate(version, renewal, fwd, reason):
            return (
                f"would ask the origin ({fwd}: {reason}) to {renewal.value} version {version.name}; "
                f"if the origin fails, {_if_it_fails(looked, now)}"
            )
        case rules.Forward(fwd, reason):
            return f"would be forwarded to the origin ({fwd}: {reason})"


def _fresh(looked: Looked, version: Version, now: float) -> str:
    """For how long, and why the strategy says so."""
    until = f"it is fresh {_for(version.fresh_until - now)}"
    if not version.name:
        return until
    return f"{until} ({looked.policy.strategy.plan(version, now, looked.key.url).reason})"


def _if_it_fails(looked: Looked, now: float) -> str:
    failure = rules.OriginFailure("http_request_error", "the origin fails")
    if (instead := looked.fallback(failure, now)) is not None:
        return f"version {instead.name} answers"
    return "nothing does, since the origin forbids stale answers (a pin, a rule or offline mode allows them)"


def _for(seconds: float) -> str:
    return "for ever" if math.isinf(seconds) else f"for another {seconds:.0f} s"
