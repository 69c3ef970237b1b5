"""When a stale version may answer: RFC 9111 §4.2.4 and §5.2.1.2, RFC 5861.

The origin has the last word (must-revalidate and its like), then come the client (max-stale), the origin's
own leave (stale-while-revalidate, stale-if-error), and Buffy's promise that what is stored answers when the
origin fails. A version that an unsafe request made invalid is not stale but wrong: its `fresh_until` is -inf.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from buffy_proxy.core.fields import delta_seconds, directives
from buffy_proxy.core.model import Request, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.said import forbids, said

_FORBID_STALE: Final = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage"})
"""Response directives that, like an unqualified no-cache, forbid a shared cache to answer stale (§4.2.4,
§5.2.2)."""


def _stale_is_forbidden(version: Version, policy: Policy) -> bool:
    spoken = said(version.fields, policy.targets)
    return forbids(spoken, "no-cache") or not _FORBID_STALE.isdisjoint(spoken)


def while_revalidating(version: Version, policy: Policy, now: float) -> bool:
    """RFC 5861 §3, unless it was invalidated or stale answers are forbidden."""
    return (
        policy.strategy.obeys_origin
        and _within("stale-while-revalidate", said(version.fields, policy.targets), version, now)
        and not _stale_is_forbidden(version, policy)
    )


def _within(name: str, directives: Mapping[str, str | None], version: Version, now: float) -> bool:
    """Whether the version is stale for no longer than the directive says."""
    seconds = delta_seconds(directives.get(name))
    return (
        seconds is not None and version.fresh_until > float("-inf") and now - version.fresh_until <= seconds
    )


def within_max_stale(request: Request, version: Version, policy: Policy, now: float) -> bool:
    """§5.2.1.2: the client takes a stale answer, unless the origin forbids it (§4.2.4) or it was
    invalidated."""
    asked = directives(request.fields)
    if "max-stale" not in asked or not policy.strategy.obeys_origin or _stale_is_forbidden(version, policy):
        return False
    limit = float("inf") if asked["max-stale"] is None else delta_seconds(asked["max-stale"])
    return limit is not None and version.fresh_until > float("-inf") and now - version.fresh_until <= limit


def may_serve_stale(request: Request, version: Version, policy: Policy, now: float) -> bool:
    """Whether the version may answer although the origin could not be asked. Buffy's promise goes beyond
    stale-if-error (RFC 5861): yes, unless under a strategy that obeys the origin the response forbids it, or
    the strategy is strict and neither side allows it.

    A pin or offline mode says so explicitly. While still fresh, only no-cache forbids.
    """
    if not policy.strategy.obeys_origin or request.offline or version.pinned(now):
        return True
    spoken = said(version.fields, policy.targets)
    if now < version.fresh_until:
        return not forbids(spoken, "no-cache")
    if _stale_is_forbidden(version, policy):
        return False
    asked = directives(request.fields)
    return not policy.strict or any(_within("stale-if-error", d, version, now) for d in (spoken, asked))
