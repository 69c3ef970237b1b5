"""What a response's cache directives are for this cache: a targeted field where there is one (RFC 9213), else
Cache-Control (RFC 9111 §5.2).

A targeted field is a Dictionary (RFC 9651); a malformed or empty one counts as absent. Where a field of the
target list is there, Cache-Control and Expires say nothing to this cache any more, but they stay in the
response for others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import http_sf

from buffy_proxy.core.fields import combined, directives, without
from buffy_proxy.core.model import Fields

Said = Mapping[str, str | None]
"""Lower-case directives and their arguments, as `core.fields.directives` gives them."""

TARGETS: Final = ("CDN-Cache-Control",)
"""The target list by default, in order of preference (RFC 9213 §2.2)."""

_FIELD_LISTS: Final = ("no-cache", "private")
"""Directives whose argument names fields (RFC 9111 §5.2.2.4, §5.2.2.7)."""


def said(fields: Fields, targets: Sequence[str] = ()) -> Said:
    """The directives that count for this cache."""
    found = targeted(fields, targets)
    return directives(fields) if found is None else found


def targeted(fields: Fields, targets: Sequence[str]) -> Said | None:
    """Those of the first field of the target list that is there and valid, None without one."""
    for name in targets:
        value = combined(fields, name.encode("latin-1"))
        if value is not None and (found := _dictionary(value)):
            return found
    return None


def _dictionary(value: bytes) -> Said | None:
    try:
        members: Any = http_sf.parse(value, tltype="dictionary")
    except ValueError:
        return None
    return {name: _argument(name, member[0]) for name, member in members.items() if member[0] is not False}


def _argument(name: str, value: Any) -> str | None:
    """As text. A value of the wrong type, such as a String for max-age, stays recognisably invalid."""
    if value is True:
        return None
    if name in _FIELD_LISTS:
        return str(value) if isinstance(value, str | http_sf.Token) else None
    return str(value) if type(value) is int else repr(value)


def forbids(directives: Said, name: str) -> bool:
    """Whether `no-cache` or `private` concerns the whole response, not just the fields that it names. A
    malformed list counts as none: it must not permit what its absence would forbid."""
    return name in directives and not _listed(directives[name])


def named_fields(directives: Said) -> frozenset[bytes]:
    """Lower-case names of the fields that `no-cache="…"` and `private="…"` keep out of the store: without
    asking, nobody else may get them."""
    return frozenset(n for name in _FIELD_LISTS for n in _listed(directives.get(name)))


def without_named(fields: Fields, targets: Sequence[str] = ()) -> Fields:
    """`fields` as they may be stored."""
    named = named_fields(said(fields, targets))
    return without(fields, named) if named else fields


_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")

_NEEDED: Final = frozenset(
    {b"cache-control", b"content-encoding", b"content-range", b"content-type", b"vary"}
)
"""Without these a stored response would be another: answer other requests, or longer, or be unreadable."""


def _listed(argument: str | None) -> list[bytes]:
    """The names in a list of fields, [] where it is not one or names a field that cannot be left out."""
    parts = [part.strip(" \t") for part in (argument or "").lower().split(",")]
    names = [part for part in parts if part]
    if not all(_FIELD_NAME.fullmatch(name) for name in names):
        return []
    listed = [name.encode("ascii") for name in names]
    return listed if _NEEDED.isdisjoint(listed) else []
