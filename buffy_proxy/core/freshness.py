"""How long a response stays fresh and how old it is: RFC 9111 §4.2, for a shared cache.

    response_is_fresh = (freshness_lifetime > current_age)                            §4.2

    lifetime   s-maxage, else max-age, else Expires − Date, else from Last-Modified   §4.2.1, §4.2.2
    age        since the origin made or confirmed it; from Date and Age               §4.2.3

Strategies and rules both need these figures, so they stand below both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from buffy_proxy.core.fields import combined, delta_seconds, first, http_date, parse_etag
from buffy_proxy.core.model import Fields, Version
from buffy_proxy.core.said import forbids, said, targeted

HEURISTIC_STATUS: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Status codes that may be stored without explicit freshness (RFC 9110 §15.1)."""

HEURISTIC_SHARE: Final = 0.1
HEURISTIC_MAX_S: Final = 86400.0
"""A response that says nothing is fresh for a tenth of its age, at most a day (RFC 9111 §4.2.2)."""


def freshness_lifetime(version: Version, targets: Sequence[str] = ()) -> tuple[float, str]:
    """Seconds, and where they come from ("max-age=60"). 0 for no-cache and for what is not understood.
    `targets` are the names of targeted fields that this cache obeys (RFC 9213)."""
    return lifetime(version.status, version.fields, version.received_at, targets)


def lifetime(
    status: int, fields: Fields, received_at: float, targets: Sequence[str] = ()
) -> tuple[float, str]:
    """The same for a response that is no version yet; `received_at` stands in for a missing Date."""
    cc = said(fields, targets)
    if forbids(cc, "no-cache"):
        return 0.0, "no-cache"
    explicit = explicit_lifetime(fields, received_at, targets)
    if explicit is not None:
        return explicit
    if status not in HEURISTIC_STATUS and "public" not in cc:
        return 0.0, "no freshness information"
    return _heuristic(fields, received_at)


def explicit_lifetime(
    fields: Fields, received_at: float, targets: Sequence[str] = ()
) -> tuple[float, str] | None:
    """What the origin itself says (RFC 9111 §4.2.1), None if nothing. Invalid values count as 0 s."""
    cc = said(fields, targets)
    for name in ("s-maxage", "max-age"):
        if name in cc:
            seconds = delta_seconds(cc[name])
            return (0.0, f"invalid {name}") if seconds is None else (float(seconds), f"{name}={seconds}")
    expires = first(fields, b"expires")
    if expires is None or targeted(fields, targets) is not None:  # RFC 9213 §2.2: Expires is not for us then
        return None
    # Invalid dates, "0" above all, lie in the past (§5.3).
    until = http_date(expires, received_at)
    if until is None:
        return 0.0, "invalid Expires"
    return max(0.0, until - date_value(fields, received_at)), "Expires"


def _heuristic(fields: Fields, received_at: float) -> tuple[float, str]:
    modified = last_modified(fields)
    if modified is None:
        return 0.0, "no freshness information"
    seconds = HEURISTIC_SHARE * (date_value(fields, received_at) - modified)
    return min(max(0.0, seconds), HEURISTIC_MAX_S), "a tenth of its age by Last-Modified"


# -- age (§4.2.3) -------------------------------------------------------------------------------------------


def date_value(fields: Fields, received_at: float) -> float:
    """Date in POSIX s; when the response came if there is no valid one (RFC 9110 §6.6.1)."""
    date = http_date(first(fields, b"date") or b"", received_at)
    return received_at if date is None else date


def age_value(fields: Fields) -> int:
    """Age in seconds. Of several values the first counts, an invalid one is ignored (RFC 9111 §5.1)."""
    value = (combined(fields, b"age") or b"").partition(b",")[0].strip(b" \t")
    return delta_seconds(value.decode("latin-1")) or 0


def initial_age(fields: Fields, requested_at: float, received_at: float) -> float:
    """corrected_initial_age: how old the response was when it came. A clock that went backwards between
    request and response counts as no delay."""
    apparent_age = max(0.0, received_at - date_value(fields, received_at))
    response_delay = max(0.0, received_at - requested_at)
    return max(apparent_age, age_value(fields) + response_delay)


def current_age(version: Version, now: float) -> float:
    """Seconds since the origin made or confirmed it; never negative, never falling while `now` rises."""
    resident_time = max(0.0, now - version.received_at)
    return initial_age(version.fields, version.requested_at, version.received_at) + resident_time


def fresh_until(version: Version, targets: Sequence[str] = ()) -> float:
    """The moment (POSIX s) at which its current age reaches its freshness lifetime."""
    return fresh_for(version, freshness_lifetime(version, targets)[0])


def fresh_for(version: Version, seconds: float) -> float:
    """The moment at which its current age reaches `seconds`."""
    return (
        version.received_at + seconds - initial_age(version.fields, version.requested_at, version.received_at)
    )


def has_validator(fields: Fields) -> bool:
    """Whether a conditional request is possible: an ETag or a valid Last-Modified (RFC 9110 §8.8)."""
    return parse_etag(first(fields, b"etag")) is not None or last_modified(fields) is not None


def last_modified(fields: Fields) -> float | None:
    """Last-Modified in POSIX s, None if absent or invalid."""
    return http_date(first(fields, b"last-modified") or b"")
