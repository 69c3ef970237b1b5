"""What of an origin's answers may be stored: RFC 9111 §3, for a shared cache.

Two tables. The first holds whatever the strategy: storing those responses would be a lie. The second is what
the RFC forbids; a strategy that does not obey the origin skips it, since its user asked for the resource to
be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from buffy_proxy.core.fields import ANY, directives, first, vary_names
from buffy_proxy.core.freshness import HEURISTIC_STATUS, explicit_lifetime, initial_age, lifetime
from buffy_proxy.core.model import CacheKey, Request, Response
from buffy_proxy.core.parts import no_part
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.said import forbids, said


@dataclass(frozen=True, slots=True)
class Store:
    """As a version."""


@dataclass(frozen=True, slots=True)
class StoreError:
    """Beside the versions, for repetition until then (POSIX s)."""

    until: float


@dataclass(frozen=True, slots=True)
class DoNotStore:
    """Forwarded only."""

    reason: str


Storability = Store | StoreError | DoNotStore


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A request and its response, as the rows below look at them; `asked`, `said`: their directives."""

    request: Request
    response: Response
    policy: Policy
    now: float
    asked: Mapping[str, str | None]
    said: Mapping[str, str | None]

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def explicit(self) -> bool:
        return explicit_lifetime(self.response.fields, self.now, self.policy.targets) is not None


UNDERSTOOD: Final = HEURISTIC_STATUS - {206} | {302, 303, 307}
"""Status codes whose caching this module implements (RFC 9111 §3, §5.2.2.3)."""

_UNREPEATABLE: Final = frozenset({401, 407, 412, 416, 421, 425, 428, 429, 431, 511})
"""Errors about this one request, or that must never be stored (RFC 6585, RFC 8470 §5.2)."""

HEURISTIC_ERROR_MAX_S: Final = 300.0

_SHARED_LEAVE: Final = frozenset({"public", "must-revalidate", "s-maxage"})
"""Response directives that let a shared cache keep what was asked for with Authorization (RFC 9111 §3.5)."""


def _no_store_said(x: _Exchange) -> bool:
    return "no-store" in x.said and not ("must-understand" in x.said and x.status in UNDERSTOOD)


def _not_understood(x: _Exchange) -> bool:
    return "must-understand" in x.said and x.status not in UNDERSTOOD


def _silent_on_method(x: _Exchange) -> bool:
    return x.request.method != "GET" and not x.explicit


def _nothing_allows(x: _Exchange) -> bool:
    return not (x.explicit or "public" in x.said or x.status in HEURISTIC_STATUS)


def _unshared(x: _Exchange) -> bool:
    return first(x.request.fields, b"authorization") is not None and not _SHARED_LEAVE & x.said.keys()


def _event_stream(x: _Exchange) -> bool:
    return (first(x.response.fields, b"content-type") or b"").strip().lower().startswith(b"text/event-stream")


_Rows = tuple[tuple[str, Callable[[_Exchange], bool], str], ...]

_NOT_WHOLE: Final = (
    ("RFC 9110 §15.2", range(100, 200), "an interim response"),
    ("RFC 9111 §3.3", (206,), "a part is not the whole"),
    ("RFC 9111 §4.3.3", (304,), "a 304 has no content"),
)

_NEVER_A_VERSION: Final[_Rows] = (
    ("RFC 9111 §2", lambda x: x.request.method not in x.policy.methods, "the method is not cached"),
    ("RFC 9110 §9.3.2", lambda x: x.request.method == "HEAD", "an answer to HEAD has no content"),
    *((clause, lambda x, s=status: x.status in s, why) for clause, status, why in _NOT_WHOLE),
    ("server-sent events", _event_stream, "an event stream is never complete"),
    ("RFC 6585 and others", lambda x: x.status in _UNREPEATABLE, "an error about this one request"),
)
"""Whatever the strategy: clause, whether it forbids, why."""

_FORBIDDEN: Final[_Rows] = (
    ("RFC 9111 §5.2.1.5", lambda x: "no-store" in x.asked, "no-store in the request"),
    ("RFC 9111 §5.2.2.5, §5.2.2.3", _no_store_said, "no-store in the response"),
    ("RFC 9111 §5.2.2.3", _not_understood, "must-understand, and the status is not"),
    ("RFC 9111 §5.2.2.7", lambda x: forbids(x.said, "private"), "private"),
    ("RFC 9111 §3.5", _unshared, "asked for with Authorization"),
    ("RFC 9111 §4.1", lambda x: vary_names(x.response.fields) is ANY, "Vary: * never matches again"),
    ("RFC 9111 §3", _nothing_allows, "the status needs explicit freshness"),
    ("RFC 9110 §9.3.3", _silent_on_method, "the method needs explicit freshness"),
)
"""For strategies that obey the origin, and for errors under any strategy."""


def storability(
    request: Request, response: Response, policy: Policy, key: CacheKey, now: float
) -> Storability:
    """Whether the response, complete and received at `now`, may be stored. `request` is the client's own,
    with its credentials. The partition in `key` changes nothing here: it protects, it does not permit."""
    asked, said_ = directives(request.fields), said(response.fields, policy.targets)
    exchange = _Exchange(request, response, policy, now, asked=asked, said=said_)
    error = response.status >= 400
    rows = _NEVER_A_VERSION + (_FORBIDDEN if error or policy.strategy.obeys_origin else ())
    for clause, applies, why in rows:
        if applies(exchange):
            return DoNotStore(f"{why} ({clause})")
    return _error(exchange) if error else Store()


def storable_part(request: Request, response: Response, policy: Policy, now: float) -> str | None:
    """Why a 206 may not be kept as a part (RFC 9111 §3.3), None if it may: as for a whole response, and the
    strategy must be one that obeys the origin, since others want the whole."""
    if not policy.strategy.obeys_origin:
        return "the strategy wants the whole"
    if (why := no_part(request, response)) is not None:
        return why
    asked, said_ = directives(request.fields), said(response.fields, policy.targets)
    exchange = _Exchange(request, response, policy, now, asked=asked, said=said_)
    return next((f"{why} ({clause})" for clause, applies, why in _FORBIDDEN if applies(exchange)), None)


def is_whole(request: Request, response: Response) -> bool:
    """Whether the response could be a version at all; no strategy and no plugin may store another."""
    return request.method != "HEAD" and not any(response.status in codes for _, codes, _ in _NOT_WHOLE)


def _error(x: _Exchange) -> StoreError | DoNotStore:
    """An error is repeated as long as the origin itself says (RFC 9111 §4.2.1); where it only gives a
    Last-Modified (§4.2.2), for minutes at most, since what is missing today is there tomorrow."""
    seconds, _ = lifetime(x.status, x.response.fields, x.now, x.policy.targets)
    if not x.explicit:
        seconds = min(seconds, HEURISTIC_ERROR_MAX_S)
    until = x.now + seconds - initial_age(x.response.fields, x.now, x.now)
    return StoreError(until) if until > x.now else DoNotStore(f"an error ({x.status}) is never a version")
