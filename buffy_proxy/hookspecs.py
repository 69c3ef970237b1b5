"""Everything a plugin may implement, a line of purpose each; docs/plugins.md has the long form.

Four kinds. *Policy* hooks get the default answer and may give another: plugins are asked one after the other,
the first answer that is not None wins. *All-apply* hooks go through all plugins in turn. *Events* are told
after the commit, in a thread of the plugin's own. *Extension points* are asked once, when a process starts.

Values are frozen and times are POSIX seconds. A plugin may leave out arguments that it does not need. One
that raises or answers nonsense is logged and counted, and the default stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from buffy_proxy.core.keys import KeyParts
from buffy_proxy.core.model import CacheKey, Fields, Request, Response, Retention, Served, StoredBody, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.rules import Decision, Instead, OriginFailure
from buffy_proxy.core.storing import Storability
from buffy_proxy.core.strategies import Strategy

if TYPE_CHECKING:
    import typer

    from buffy_proxy.orders import Order
    from buffy_proxy.plugins.context import PluginContext
    from buffy_proxy.plugins.jobs import Job

spec = pluggy.HookspecMarker("buffy")

# -- strategies and settings --------------------------------------------------------------------------------


@spec
def register_strategies() -> Iterable[type[Strategy]]:  # type: ignore[empty-body]
    """Recaching strategies that rules, orders and clients may then name."""


@spec
def configure(settings: Mapping[str, Any]) -> None:
    """The plugin's own table [plugins.NAME] of buffy.toml, before anything else; ValueError refuses it."""


# -- policy: the first answer that is not None wins ---------------------------------------------------------


@spec
def cache_key(request: Request, policy: Policy, default: KeyParts) -> KeyParts | None:
    """What names the resource that a request asks for: widen it, or leave out what does not matter."""


@spec
def storability(
    request: Request, response: Response, policy: Policy, now: float, default: Storability
) -> Storability | None:
    """Whether a response of the origin is stored: Store(), StoreError(until) or DoNotStore(reason)."""


@spec
def select_version(
    request: Request, versions: Sequence[Version], now: float, default: Version | None
) -> Version | None:
    """Which of the stored versions that match a request is meant."""


@spec
def reuse(
    request: Request, version: Version | None, policy: Policy, now: float, default: Decision
) -> Decision | None:
    """What answers a request: Serve, Validate, Forward or Unavailable."""


@spec
def on_origin_error(
    request: Request,
    version: Version | None,
    error: OriginFailure,
    policy: Policy,
    now: float,
    default: Instead,
) -> Instead | None:
    """What answers when the origin fails: UseStored(version) or GiveUp(reason)."""


@spec
def is_new_version(key: CacheKey, old: StoredBody, new: StoredBody, default: bool) -> bool | None:
    """Whether content that differs means something else; False: the stored version is merely confirmed."""


@spec
def retain(
    key: CacheKey, versions: Sequence[Version], retention: Retention, now: float, default: frozenset[str]
) -> Collection[str] | None:
    """The names of the versions to keep, after a new one was stored."""


# -- all-apply ----------------------------------------------------------------------------------------------


@spec
def origin_request(method: str, url: str, fields: Fields) -> Fields | None:
    """Edits the fields of a request before it leaves for the origin; None leaves them."""


# -- events, after the commit, off the hot path -------------------------------------------------------------


@spec
def stored(key: CacheKey, version: Version) -> None:
    """A version was stored."""


@spec
def freshened(key: CacheKey, version: Version) -> None:
    """The origin confirmed a stored version, or sent the same content again."""


@spec
def changed(key: CacheKey, version: Version, previous: Version) -> None:
    """New content came at a URL of which an older version is known."""


@spec
def evicted(key: CacheKey, version: Version, reason: str) -> None:
    """A version went to make room ("space"), or since enough newer ones are there ("retention")."""


@spec
def served(event: Served) -> None:
    """A request was answered. These events alone may be dropped under load."""


@spec
def origin_failed(key: CacheKey, error: OriginFailure) -> None:
    """The origin gave no usable answer, whatever the client then got."""


@spec
def order_finished(key: CacheKey, order: Order) -> None:
    """An order of the v1 API is ready, a duplicate, or has failed for good."""


@spec
def plugin_failed(plugin: str, hook: str, error: str) -> None:
    """A plugin raised or gave an answer that is none."""


# -- extension points ---------------------------------------------------------------------------------------


@spec
def startup(context: PluginContext) -> None:
    """A process of the server starts (`context.role`: proxy or api)."""


@spec
def shutdown(context: PluginContext) -> None:
    """A process of the server ends; at most two seconds are waited."""


@spec
def register_commands(app: typer.Typer) -> None:
    """Adds commands to `buffy NAME …`; `app` is the plugin's own group."""


@spec
def register_routes(router: Any) -> None:
    """Adds routes to the control API under /plugins/NAME; `router` is the plugin's own fastapi.APIRouter."""


@spec
def register_jobs() -> Iterable[Job]:  # type: ignore[empty-body]
    """Work at the times of a cron expression, in one process of the server."""
