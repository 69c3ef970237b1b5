"""The decisions: what answers a request, and what may be stored. RFC 9111, for a shared cache.

                     request + stored versions                           response of the origin
                                |                                                  |
                             decide                                           storability
        +-----------+-----------+-----------+--------------+          +------------+-----------+
      Serve      Validate     Forward    Unavailable                Store     StoreError    DoNotStore
   from store   ask, then     to the     nothing to serve,        a version   beside the    forwarded only
   fresh or     serve what    origin     and asking is             |          versions
   not          is current               forbidden                 +-> planned: fresh_until, refresh_at

How long a version answers was decided when it was stored or validated, so `decide` compares floats. A
strategy that does not obey the origin (`strategy.obeys_origin`) skips what the RFC forbids, never what would
be a lie: a part or a 304 is no version, and a variant answers only the requests it matches, whatever the
strategy.

The checks stand in tables with the clause beside each; deeper semantics are more rows. Section numbers are
those of RFC 9111 unless another is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from buffy_proxy.core.conditional import (
    CONDITIONS,
    Multipart,
    byte_range,
    conditional_fields,
    confirms,
    freshen,
    multipart,
    precondition,
    same_representation,
    satisfies_match,
)
from buffy_proxy.core.fields import Fwd, Unsatisfiable, delta_seconds, directives, first, names
from buffy_proxy.core.freshness import current_age, freshness_lifetime, has_validator
from buffy_proxy.core.keys import (
    SECRET_FIELDS,
    KeyParts,
    cache_key,
    cache_key_of,
    has_secret_parameters,
    key_parts,
    redact_url,
    without_secrets,
)
from buffy_proxy.core.messages import (
    answer_fields,
    answers_get,
    answers_itself,
    as_get,
    forward_fields,
    invalidated_urls,
    redirected,
    shared_fields,
    trace,
)
from buffy_proxy.core.model import CacheKey, Request, Version
from buffy_proxy.core.parts import PARTIAL, Slice, slice_of
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.said import said, without_named
from buffy_proxy.core.stale import may_serve_stale, while_revalidating, within_max_stale
from buffy_proxy.core.storing import (
    DoNotStore,
    Storability,
    Store,
    StoreError,
    is_whole,
    storability,
    storable_part,
)
from buffy_proxy.core.strategies import Renewal
from buffy_proxy.core.versions import matches, prefer_pinned

__all__ = [
    "CONDITIONS",
    "SECRET_FIELDS",
    "Decision",
    "DoNotStore",
    "Forward",
    "GiveUp",
    "Instead",
    "KeyParts",
    "Multipart",
    "OriginFailure",
    "Serve",
    "Slice",
    "Storability",
    "Store",
    "StoreError",
    "Unavailable",
    "Unsatisfiable",
    "UseStored",
    "Validate",
    "answer_fields",
    "answers_get",
    "answers_itself",
    "as_get",
    "byte_range",
    "cache_key",
    "cache_key_of",
    "conditional_fields",
    "confirms",
    "current_age",
    "decide",
    "forward_fields",
    "freshen",
    "freshness_lifetime",
    "instead",
    "invalidated_urls",
    "is_whole",
    "key_parts",
    "may_serve_stale",
    "multipart",
    "planned",
    "precondition",
    "redact_url",
    "redirected",
    "same_representation",
    "shared_fields",
    "slice_of",
    "storability",
    "storable_part",
    "trace",
    "without_named",
    "without_secrets",
]


# -- what answers a request (§4) ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with this version without asking. `stale`: past its `fresh_until`; `detail`: for Cache-Status,
    "" for a plain hit; `renew`: how the origin is to be asked in the background (RFC 5861 §3)."""

    version: Version
    stale: bool
    detail: str
    renew: Validate | None = None


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask the origin before answering, in the way `renewal` says; a 304 makes the version current again."""

    version: Version
    renewal: Renewal
    fwd: Literal["stale", "request"]
    reason: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request to the origin; no stored version is of use. With `fwd` "method" or "partial" it goes
    out as it is, and its answer is not stored; else without Range and conditions, so that it can be."""

    fwd: Fwd
    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """504: the origin must not be asked (offline; only-if-cached, §5.2.1.7) and nothing stored may answer."""

    reason: str


Decision = Serve | Validate | Forward | Unavailable


def decide(
    request: Request,
    versions: Sequence[Version],
    error: Version | None,
    policy: Policy,
    now: float,
    *,
    select: Callable[[Sequence[Version], float], Version | None] = prefer_pinned,
) -> Decision:
    """What answers `request`. `versions` are all of the resource, newest first; `error` is the error response
    (or the part) kept beside them; `select` chooses among those that match. Reads no clock and no body."""
    if request.method not in policy.methods:
        reason = f"{request.method} is not answered from the store"
        return Unavailable(f"offline, and {reason}") if request.offline else Forward("method", reason)
    star = not policy.strategy.obeys_origin
    version = select([v for v in versions if matches(v, request.fields, star=star)], now)
    usable = _from_store(request, version, error, policy, now)
    if usable is not None:
        return usable
    if version is not None:
        return _renew(request, version, policy, now)
    return _miss(request, bool(versions))


def _from_store(
    request: Request, version: Version | None, error: Version | None, policy: Policy, now: float
) -> Serve | None:
    """What may be sent without asking: a pinned version, any when offline, a fresh one, a fresh error."""
    if version is not None:
        stale = now >= version.fresh_until
        if version.pinned(now):
            return Serve(version, stale, "pinned")
        if request.offline:
            return Serve(version, stale, "offline")
        if _objection(request, version, policy, now) is None:
            if not stale:
                return Serve(version, False, "")
            if within_max_stale(request, version, policy, now):
                return Serve(version, True, "max-stale in the request")
            if while_revalidating(version, policy, now):
                renewed = _renew(request, version, policy, now)
                renew = renewed if isinstance(renewed, Validate) else None
                return Serve(version, True, "stale-while-revalidate", renew)
    if error is not None and _error_answers(request, error, policy, now):
        return _repeat_error(request, version, error, policy, now)
    if version is not None and not policy.strategy.obeys_origin and _only_if_cached(request):
        return Serve(version, True, "only-if-cached in the request")
    return None


def _error_answers(request: Request, error: Version, policy: Policy, now: float) -> bool:
    """As long as both the origin and the strategy would let it: when_requested asks anew each time."""
    fresh = now < error.fresh_until and matches(error, request.fields)
    if error.status == PARTIAL and slice_of(request, error) is None:
        return False
    if not fresh or now >= policy.strategy.plan(error, now, request.url).fresh_until:
        return False
    return _objection(request, error, policy, now) is None


def _repeat_error(
    request: Request, version: Version | None, error: Version, policy: Policy, now: float
) -> Serve:
    """A fresh 5xx says that the origin fails, so a stored version answers, as it would were the origin
    asked."""
    if version is not None and error.status >= 500 and may_serve_stale(request, version, policy, now):
        return Serve(version, now >= version.fresh_until, f"origin answered {error.status}")
    return Serve(error, False, "stored part" if error.status == PARTIAL else f"stored error {error.status}")


def _renew(request: Request, version: Version, policy: Policy, now: float) -> Decision:
    """The version is there, but not without the origin's word."""
    if _only_if_cached(request):
        return Unavailable("only-if-cached, and the stored version is not usable without validation")
    plan = policy.strategy.plan(version, now, request.url)
    renewal = plan.renewal
    # A condition on other methods does not ask whether something changed (RFC 9110 §13.1.2).
    unasked = request.method not in ("GET", "HEAD")
    if unasked or (renewal is Renewal.VALIDATE and not has_validator(version.fields)):
        renewal = Renewal.REFETCH
    if now < version.fresh_until:
        return Validate(version, renewal, "request", _objection(request, version, policy, now) or plan.reason)
    invalidated = version.fresh_until == float("-inf")
    return Validate(
        version, renewal, "stale", "invalidated by an unsafe request" if invalidated else plan.reason
    )


def _miss(request: Request, other_variants: bool) -> Decision:
    what = "no stored variant matches" if other_variants else "nothing is stored"
    if request.offline:
        return Unavailable(f"offline, and {what}")
    if _only_if_cached(request):
        return Unavailable(f"only-if-cached, and {what}")
    if request.method == "GET" and first(request.fields, b"range") is not None:
        return Forward("partial", f"{what}; the request for a part goes out as it is")
    return Forward("vary-miss" if other_variants else "uri-miss", what)


# -- request directives (§5.2.1), for strategies that obey ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request against one version, as the rows below look at it."""

    request: Request
    asked: Mapping[str, str | None]
    version: Version
    policy: Policy
    now: float

    def seconds(self, name: str) -> int | None:
        """The argument of a request directive; None if absent or invalid, which then asks for nothing."""
        return delta_seconds(self.asked.get(name))


def _too_old(ask: _Ask) -> bool:
    limit = ask.seconds("max-age")
    if limit is None or "immutable" in said(ask.version.fields, ask.policy.targets):
        return False
    return current_age(ask.version, ask.now) > limit


def _not_fresh_enough(ask: _Ask) -> bool:
    wanted = ask.seconds("min-fresh")
    return wanted is not None and ask.version.fresh_until - ask.now < wanted


def _pragma(ask: _Ask) -> bool:
    return not ask.asked and "no-cache" in directives(ask.request.fields, b"pragma")


_OBJECTIONS: Final[tuple[tuple[str, Callable[[_Ask], bool], str], ...]] = (
    ("§5.2.1.4", lambda ask: "no-cache" in ask.asked, "no-cache in the request"),
    ("§5.4", _pragma, "Pragma: no-cache in the request"),
    ("§5.2.1.1, RFC 8246 §2", _too_old, "older than the request's max-age"),
    ("§5.2.1.3", _not_fresh_enough, "not fresh for the request's min-fresh"),
    (
        "RFC 9110 §13.1.1, §13.1.4",
        lambda ask: not satisfies_match(ask.request, ask.version),
        "If-Match differs",
    ),
)
"""What a client may demand beyond freshness: clause, whether it objects to the version, why."""

_DEMANDING: Final = frozenset({b"cache-control", b"pragma", b"if-match", b"if-unmodified-since"})
"""The request fields that the rows above read; most requests have none of them."""


def _objection(request: Request, version: Version, policy: Policy, now: float) -> str | None:
    """Why the client wants this version validated although it may be fresh; None: it does not."""
    if not policy.strategy.obeys_origin or _DEMANDING.isdisjoint(names(request.fields)):
        return None
    ask = _Ask(request, directives(request.fields), version, policy, now)
    return next((why for _, objects, why in _OBJECTIONS if objects(ask)), None)


def _only_if_cached(request: Request) -> bool:
    return "only-if-cached" in directives(request.fields)


@dataclass(frozen=True, slots=True)
class OriginFailure:
    """Why the origin's answer is of no use: `word` is the error type of RFC 9209 §2.3, `text` says more,
    `status` is the origin's where it answered (5xx, 429 …)."""

    word: str
    text: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class UseStored:
    """This version answers in the origin's place."""

    version: Version


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing stored answers: the client gets the origin's error, or a gateway error."""

    reason: str


Instead = UseStored | GiveUp


def instead(request: Request, version: Version | None, policy: Policy, now: float) -> Instead:
    """What happens when the origin fails; `version` is the one that matches the request, if there is one."""
    if version is None:
        return GiveUp("nothing is stored")
    if may_serve_stale(request, version, policy, now):
        return UseStored(version)
    return GiveUp("the origin forbids stale answers")


# -- until when it answers -----------------------------------------------------------------------------------


def planned(
    version: Version, policy: Policy, key: CacheKey, now: float, *, repeatable: bool = False
) -> Version:
    """The version with what its strategy plans for it.

    Partitioned resources, and those whose key holds a body or a secret, are not renewed in the background:
    nobody there has the credentials or the body; unless the request is on record (`repeatable`: orders).
    """
    plan = policy.strategy.plan(version, now, key.url)
    lacking = key.partition or key.body_digest or has_secret_parameters(key.url)
    refresh_at = plan.refresh_at if repeatable or not lacking else None
    return replace(version, fresh_until=plan.fresh_until, refresh_at=refresh_at)
