"""What Buffy writes into messages about itself: Cache-Status (RFC 9211) and Via (RFC 9110 §7.6.3)."""

from __future__ import annotations

import math
from typing import Final, Literal

from buffy_proxy.core.model import Fields

NAME: Final = "buffy"

Fwd = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a request went to the origin (RFC 9211 §2.2)."""

_MAX_INTEGER: Final = 999_999_999_999_999  # RFC 9651 §3.3.1


def cache_status(
    *,
    hit: bool = False,
    fwd: Fwd | None = None,
    fwd_status: int | None = None,
    ttl: float | None = None,
    stored: bool = False,
    collapsed: bool = False,
    key: str | None = None,
    detail: str | None = None,
) -> bytes:
    """One member of a Cache-Status list. `hit` and `fwd` exclude each other; `ttl` is in seconds, may be
    negative, and is left out where it is infinite (no integer says "for ever")."""
    parts = [NAME]
    if hit and fwd is None:
        parts.append("hit")
    if fwd is not None:
        parts.append(f"fwd={fwd}")
    if fwd_status is not None:
        parts.append(f"fwd-status={fwd_status}")
    if ttl is not None and math.isfinite(ttl):
        parts.append(f"ttl={max(-_MAX_INTEGER, min(_MAX_INTEGER, math.floor(ttl)))}")
    parts += [flag for flag, present in (("stored", stored), ("collapsed", collapsed)) if present]
    if key is not None:
        parts.append(f"key={sf_string(key)}")
    if detail:
        parts.append(f"detail={sf_string(detail)}")
    return "; ".join(parts).encode("ascii")


def sf_string(text: str) -> str:
    """A structured-field string (RFC 9651 §4.1.6). What ASCII cannot show becomes "?" (§: "section ")."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in text.replace("§", "section "))
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def via(fields: Fields, http_version: str = "HTTP/1.1") -> Fields:
    """`fields` with `Via: 1.1 buffy` added at the end; the version is that of the message received."""
    version = http_version.rpartition("/")[2] or "1.1"
    return (*fields, (b"Via", f"{version} {NAME}".encode("latin-1", "replace")))
