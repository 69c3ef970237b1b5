"""Which version is meant (name, tag, as of a time, pin, newest), what it answers, and which are kept.

All lists of versions are newest first, that is by falling name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from buffy_proxy.core import languages
from buffy_proxy.core.fields import ANY, Star, combined, vary_names
from buffy_proxy.core.keys import CREDENTIAL_FIELDS
from buffy_proxy.core.model import Fields, Retention, Version

MAX_VARIANTS: Final = 64
"""Variants kept for each resource; an origin that varies on User-Agent must not fill the store."""

# -- names --------------------------------------------------------------------------------------------------

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"  # base32hex (RFC 4648 §7) sorts like the numbers
_LENGTH: Final = 11


def next_name(now: float, newest: str | None) -> str:
    """A name for a version stored at `now`: microseconds in 11 base32hex digits, sorts by time. It is greater
    than `newest` even where the clock stands still or went back. Raises ValueError if `newest` is no name."""
    micros = max(0, round(now * 1e6))
    if newest is not None:
        micros = max(micros, _micros(newest) + 1)
    return "".join(_DIGITS[micros >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


def name_time(name: str) -> float:
    """POSIX seconds at which the version was stored. Raises ValueError if it is no version name."""
    return _micros(name) / 1e6


def _micros(name: str) -> int:
    if len(name) != _LENGTH or not set(name) <= set(_DIGITS):
        raise ValueError(f"{name!r} is no version name; one has {_LENGTH} characters of 0-9 and a-v")
    return int(name, 32)


# -- variants (RFC 9111 §4.1) -------------------------------------------------------------------------------

Variant = tuple[tuple[bytes, bytes | None], ...] | Star
"""The nominated request fields and their values, sorted by name; ANY for `Vary: *`."""

_COMMA = re.compile(rb"[ \t]*,[ \t]*")


def variant(version: Version) -> Variant:
    """Which variant of its resource a version is."""
    names = vary_names(version.fields)
    return ANY if names is ANY else _nominated(names, version.request_fields)


def same_variant(a: Version, b: Version) -> bool:
    """Equal nominated names and values. Two with `Vary: *` count as one: else none would ever drop."""
    return variant(a) == variant(b)


def matches(version: Version, request_fields: Fields, *, star: bool = False) -> bool:
    """Whether the version answers a request with these fields (RFC 9111 §4.1).

    `Vary: *` never does, but with `star`: where the user asked for the resource to be kept whatever it says.
    Credentials are not compared: the cache key already did, and versions do not hold them.
    """
    names = vary_names(version.fields)
    if names is ANY:
        return star
    if not names or _nominated(names, version.request_fields) == _nominated(names, request_fields):
        return True
    return languages.FIELD in names and _language_suits(version, names, request_fields)


def _language_suits(version: Version, names: frozenset[bytes], request_fields: Fields) -> bool:
    """Whether the languages that were asked for differ, but the version is in the one that this request wants
    most: the origin has no better answer (RFC 9110 §12.5.4). All else that Vary names must be equal."""
    asked, language = combined(request_fields, languages.FIELD), combined(version.fields, b"content-language")
    if asked is None or language is None or languages.preferred(asked) != language.strip().lower():
        return False
    others = names - {languages.FIELD}
    return _nominated(others, version.request_fields) == _nominated(others, request_fields)


def _nominated(names: Iterable[bytes], request_fields: Fields) -> tuple[tuple[bytes, bytes | None], ...]:
    wanted = sorted(set(names) - CREDENTIAL_FIELDS)
    return tuple((name, _normal(name, combined(request_fields, name))) for name in wanted)


def _normal(name: bytes, value: bytes | None) -> bytes | None:
    """White space around commas means nothing, but within quoted strings it may."""
    if value is not None and name == languages.FIELD:
        return languages.normal(value)
    if value is None or b'"' in value:
        return value
    return _COMMA.sub(b", ", value.strip(b" \t"))


# -- selection ----------------------------------------------------------------------------------------------


def select(
    versions: Sequence[Version],
    request_fields: Fields | None,
    now: float,
    *,
    tag: str | None = None,
    name: str | None = None,
    as_of: float | None = None,
) -> Version | None:
    """The version that is meant: the one with that name, or the newest with that tag, or the newest that was
    stored by `as_of` (POSIX s), else the newest pinned one, else the newest. None if there is none.

    Only versions that match `request_fields` come into question; None for any variant. A name is explicit: it
    is not asked whether it matches.
    """
    if name is not None:
        return next((v for v in versions if v.name == name), None)
    candidates = [v for v in versions if request_fields is None or matches(v, request_fields)]
    if tag is not None:
        return next((v for v in candidates if tag in v.tags), None)
    if as_of is not None:
        return next((v for v in candidates if v.cached_at <= as_of), None)
    return prefer_pinned(candidates, now)


def prefer_pinned(versions: Sequence[Version], now: float) -> Version | None:
    """The newest pinned one, else the newest."""
    return next((v for v in versions if v.pinned(now)), versions[0] if versions else None)


# -- retention ----------------------------------------------------------------------------------------------


def retained(
    versions: Sequence[Version], retention: Retention, now: float
) -> tuple[list[Version], list[Version]]:
    """Splits into those to keep and those to drop, both newest first.

    For each variant: tagged versions and the newest one always stay; of the pinned and of the unpinned ones
    the newest `retention` many. Beyond MAX_VARIANTS the variants not renewed for longest go, but for what is
    pinned or tagged.
    """
    seen: dict[Variant, _Seen] = {}
    keep: list[Version] = []
    drop: list[Version] = []
    for version in versions:
        of_variant = seen.setdefault(variant(version), _Seen(rank=len(seen)))
        stays = of_variant.stays(version, version.pinned(now), retention)
        (keep if stays else drop).append(version)
    return keep, drop


@dataclass(slots=True)
class _Seen:
    """What retained() has seen of one variant; `rank` 0 is the variant renewed last."""

    rank: int
    total: int = 0
    pinned: int = 0
    unpinned: int = 0

    def stays(self, version: Version, pinned: bool, retention: Retention) -> bool:
        self.total += 1
        if version.tags:
            return True
        if pinned:
            self.pinned += 1
            return self.total == 1 or self.pinned <= retention.max_cached_pinned_versions
        self.unpinned += 1
        if self.rank >= MAX_VARIANTS:
            return False
        return self.total == 1 or self.unpinned <= retention.max_cached_unpinned_versions
