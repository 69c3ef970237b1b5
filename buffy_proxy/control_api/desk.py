"""The desk where orders are placed: find or create the resource, then answer from the store or order.

An order changes what is known about a resource (its configuration, what it is a cache of), so that comes
first and is durable before anything is fetched. Whether a stored version may answer is decided by the same
rules as for a proxied request.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from buffy_proxy import orders
from buffy_proxy.config import Config, policy_for
from buffy_proxy.control_api.refusals import BadOrder
from buffy_proxy.core import rules, strategies
from buffy_proxy.core.fields import HOP_BY_HOP
from buffy_proxy.core.model import CacheKey, Request, Resource, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.versions import same_variant
from buffy_proxy.errors import BodyMissing, NotFound
from buffy_proxy.lookup import policy_of_order
from buffy_proxy.store import Store

REFUSED_FIELDS: Final = frozenset(
    name.decode()
    for name in HOP_BY_HOP | rules.CONDITIONS | {b"content-length", b"expect", b"host", b"range"}
)
"""Request fields that an order cannot have: framing is ours, and an order is for the whole, whatever anybody
has already."""


@dataclass(frozen=True, slots=True)
class Card:
    """What an order says about its resource. None: it says nothing, what is known stays.

    policy  the cache configuration in JSON form
    about   description, documentation_link, validation_hash_type
    """

    policy: Mapping[str, Any] | None
    about: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Placed:
    """`name` is the version or order that answers now, None if nothing does and nothing may be fetched."""

    resource: Resource
    created: bool
    name: str | None


class Desk:
    """Places orders and configures resources. May be called from any thread."""

    def __init__(self, store: Store, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._config = config
        self._orders = orders.OrderBook(store)
        self._clock = clock
        self._locks = tuple(threading.Lock() for _ in range(64))

    def order(self, wanted: orders.Wanted, card: Card) -> Placed:
        """Raises BadOrder for what cannot be requested, and StoreError."""
        if card.policy is not None:
            card = replace(card, policy=self._checked(card.policy))
        request, key = self._named(wanted)
        known = self._store.resource(key.id)
        resource = self._register(key, known, wanted, card, request)
        return Placed(resource, known is None, self._answer(resource, request))

    def configure(self, resource: Resource, policy: Mapping[str, Any]) -> Resource:
        """Replaces the cache configuration, and plans the stored versions anew. Raises StoreError."""
        policy = self._checked(policy)
        if resource.policy == policy:
            return resource
        changed = self._store.set_policy(resource.key, policy, None, now=self._clock()).result()
        self._replan(changed)
        return changed

    def policy(self, resource: Resource) -> Policy:
        """What applies to a resource that is known already."""
        request = Request(resource.key.method, resource.key.url, group=resource.key.group)
        return policy_of_order(self._config, request, resource)

    def _checked(self, policy: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the defaults of a plugin's strategy. Raises BadOrder for one that is unknown, or misused."""
        value = policy["recaching_strategy"]
        try:
            strategy = self._config.plugins.strategy(value)
        except ValueError as error:
            raise BadOrder(f"recaching_strategy: {error}") from error
        return {**policy, "recaching_strategy": strategies.to_json(strategy)}

    # -- who is meant -------------------------------------------------------------------------------------
    def _named(self, wanted: orders.Wanted) -> tuple[Request, CacheKey]:
        if refused := sorted({name.lower() for name in wanted.header_fields} & REFUSED_FIELDS):
            raise BadOrder(f"http_header_fields: an order cannot have the field {', '.join(refused)}")
        try:
            request = wanted.request()
            policy = policy_of_order(self._config, request, None)
            return request, orders.key_of(wanted, request, policy, self._store.secret, self._config.plugins)
        except ValueError as error:
            raise BadOrder(str(error)) from error

    # -- what is known about it ---------------------------------------------------------------------------
    def _register(
        self, key: CacheKey, known: Resource | None, wanted: orders.Wanted, card: Card, request: Request
    ) -> Resource:
        policy, info = self._policy_to_store(known, card, request), _info(known, wanted, card)
        now = self._clock()
        writing = self._store.set_policy(key, policy, info, now=now)
        if known is not None and policy in (None, known.policy) and info == known.info:
            return replace(known, requested_at=max(now, known.requested_at))  # only the time: not awaited
        resource = writing.result()
        if known is not None and policy is not None and policy != known.policy:
            self._replan(resource)
        return resource

    def _policy_to_store(
        self, known: Resource | None, card: Card, request: Request
    ) -> Mapping[str, Any] | None:
        """What was ordered explicitly, else the documented default where neither an earlier order nor a rule
        says anything; None: leave it."""
        if card.policy is not None or (known is not None and known.policy is not None):
            return card.policy
        if policy_for(self._config, request.method, request.url) is not self._config.fallback:
            return None
        return {
            "recaching_strategy": strategies.to_json(strategies.WhenRemoteChanged()),
            **asdict(self._config.retention),
        }

    def _replan(self, resource: Resource) -> None:
        """What is stored follows the new configuration from now on, not only what will be stored. The newest
        of each variant carries the renewal."""
        policy, now = self.policy(resource), self._clock()
        repeatable = "wanted" in resource.info
        newest: list[Version] = []
        writing: list[Future[Version]] = []
        for version in self._store.versions(resource.id):
            planned = rules.planned(version, policy, resource.key, now, repeatable=repeatable)
            if any(same_variant(version, other) for other in newest):
                planned = replace(planned, refresh_at=None)
            else:
                newest.append(version)
            if version.fresh_until == float("-inf"):
                planned = replace(planned, fresh_until=version.fresh_until)
            writing.append(self._store.update_version(planned))
        for future in writing:
            with contextlib.suppress(NotFound):  # retention was faster
                future.result()

    # -- what answers -------------------------------------------------------------------------------------
    def _answer(self, resource: Resource, request: Request) -> str | None:
        if (stored := self._stored(resource, request)) is not None:
            return stored
        if self._config.offline:
            return None
        with self._locks[hash(resource.id) % len(self._locks)]:
            order = self._orders.active(resource.id) or self._orders.create(resource.id, self._clock())
        orders.wake(self._config.data_dir)
        return order.name

    def _stored(self, resource: Resource, request: Request) -> str | None:
        """The version that may answer without asking the origin, if its bytes are there."""
        found = self._store.versions(resource.id)
        request = replace(request, offline=self._config.offline)
        error, policy = (
            self._store.error_response(resource.id),
            policy_of_order(self._config, request, resource),
        )
        decision = self._config.plugins.decide(request, found, error, policy, self._clock())
        if not isinstance(decision, rules.Serve) or not decision.version.name:
            return None
        try:
            self._store.open_body(decision.version.body).close()
        except BodyMissing:
            return None
        return decision.version.name


def _info(known: Resource | None, wanted: orders.Wanted, card: Card) -> dict[str, Any]:
    """What is kept with the resource; `wanted` is what the order runner makes its requests from."""
    before = dict(known.info) if known is not None else {}
    said = {name: value for name, value in card.about.items() if value is not None}
    return {**before, **said, "wanted": asdict(wanted)}
