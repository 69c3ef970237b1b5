"""Values inside fields: dates, seconds, entity tags, byte ranges. Parses and writes, decides nothing.

No parser here raises, whatever the bytes: what is not valid is None, and the caller's table says what None
means there (an invalid Expires is in the past, an invalid Age is ignored, an invalid Range is the whole).
"""

from __future__ import annotations

import calendar
import enum
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_DELTA: Final = 2**31
"""What a larger delta-seconds counts as (RFC 9111 §1.2.2): 68 years."""

_DELTA = re.compile(r"[0-9]+", re.ASCII)


def delta_seconds(value: str | None) -> int | None:
    """Whole seconds, at most 2^31; None for anything else, `-1` and `1.5` too (RFC 9111 §1.2.2)."""
    if value is None or not _DELTA.fullmatch(value):
        return None
    digits = value.lstrip("0") or "0"
    return MAX_DELTA if len(digits) > 10 else min(int(digits), MAX_DELTA)


# -- dates (RFC 9110 §5.6.7) --------------------------------------------------------------------------------

_MONTHS = b"jan feb mar apr may jun jul aug sep oct nov dec".split()
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MON = rb"(?P<mon>" + b"|".join(_MONTHS) + rb")"
_DAY = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_CLOCK = rb"(?P<h>[01][0-9]|2[0-3]):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9]|60)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        _DAY + rb", (?P<day>[0-9]{2}) " + _MON + rb" (?P<year>[0-9]{4}) " + _CLOCK + rb" GMT",  # IMF-fixdate
        _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MON + rb"-(?P<year>[0-9]{2}) " + _CLOCK + rb" GMT",  # RFC 850
        _DAY + rb" " + _MON + rb" (?P<day>[0-9]{2}| [0-9]) " + _CLOCK + rb" (?P<year>[0-9]{4})",  # asctime
    )
)
_LONGEST_DATE: Final = len(b"Wednesday, 06-Nov-94 08:49:37 GMT")
_LATEST: Final = 253402300799.0  # 9999-12-31T23:59:59Z, the last second that four digits can name


def http_date(value: bytes, now: float | None = None) -> float | None:
    """POSIX seconds, or None if it is none of the three forms. Case does not matter, time zones other than
    GMT are invalid (RFC 9111 §4.2). A two-digit year more than 50 years after `now` lies in the past
    century; without `now` 70–99 are 19xx."""
    value = value.strip(b" \t")
    return _parsed_date(value, now) if len(value) <= _LONGEST_DATE else None


@lru_cache(maxsize=4096)
def _parsed_date(value: bytes, now: float | None) -> float | None:
    """Remembered, since every hit reads the dates of its version again."""
    for form in _FORMS:
        if match := form.fullmatch(value):
            return _posix(match, now)
    return None


def _posix(match: re.Match[bytes], now: float | None) -> float | None:
    year, day = int(match["year"]), int(match["day"])
    month = _MONTHS.index(match["mon"].lower()) + 1
    if len(match["year"]) == 2:
        year = _full_year(year, now)
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return float(calendar.timegm((year, month, day, int(match["h"]), int(match["m"]), int(match["s"]))))


def _full_year(year: int, now: float | None) -> int:
    if now is None:
        return year + (1900 if year >= 70 else 2000)
    this_year = time.gmtime(min(max(now, 0.0), _LATEST)).tm_year
    year += this_year - this_year % 100
    return year - 100 if year > this_year + 50 else year


def format_http_date(posix_s: float) -> bytes:
    """IMF-fixdate. Times before 1970 or after 9999 are clamped."""
    t = time.gmtime(min(max(posix_s, 0.0), _LATEST))
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1].decode("ascii").title()
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{day}, {t.tm_mday:02} {month} {t.tm_year:04} {clock} GMT".encode("ascii")


# -- entity tags (RFC 9110 §8.8.3) --------------------------------------------------------------------------


class Star(enum.Enum):
    """The `*` of If-None-Match, If-Match and Vary."""

    ANY = "*"


ANY: Final = Star.ANY


@dataclass(frozen=True, slots=True)
class ETag:
    """An entity tag; `opaque` includes its quotes. Origins that forget the quotes are taken at their word."""

    opaque: bytes
    weak: bool = False

    def same_strongly(self, other: ETag) -> bool:
        """Strong comparison (RFC 9110 §8.8.3.2): byte for byte the same representation."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def same_weakly(self, other: ETag) -> bool:
        """Weak comparison: equivalent, good enough for a 304."""
        return self.opaque == other.opaque

    def __bytes__(self) -> bytes:
        return b"W/" + self.opaque if self.weak else self.opaque


_ETAG = re.compile(rb'(?P<weak>W/)?(?P<opaque>"[^"\x00-\x1f\x7f]*+"|[^\s",\x00-\x1f\x7f]++)')
_ETAG_ITEM = re.compile(_ETAG.pattern + rb"(?=[\s,]|\Z)|[^\s,][^,]*+")
# Possessive quantifiers, and no optional prefix, keep this linear on hostile input.


def parse_etag(value: bytes | None) -> ETag | None:
    """One entity tag, or None if there is none or it is not one."""
    match = _ETAG.fullmatch(value.strip(b" \t")) if value is not None else None
    return ETag(match["opaque"], match["weak"] is not None) if match else None


def parse_etags(value: bytes) -> tuple[ETag, ...] | Star:
    """The list of an If-Match or If-None-Match; ANY for `*`. Members that are no entity tags are left out."""
    if value.strip(b" \t") == b"*":
        return ANY
    items = (m for m in _ETAG_ITEM.finditer(value) if m["opaque"] is not None)
    return tuple(ETag(m["opaque"], m["weak"] is not None) for m in items)


# -- byte ranges (RFC 9110 §14) -----------------------------------------------------------------------------

ByteRange = tuple[int, int]
"""First and last byte position, both inclusive."""

MAX_RANGES: Final = 16
"""More ranges in one request are answered with the whole (RFC 9110 §14.2 lets a server ignore them)."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A valid Range of which nothing lies within the `size` bytes of the content: 416."""

    size: int

    def content_range(self) -> bytes:
        return b"bytes */%d" % self.size


_RANGES = re.compile(rb"bytes=([0-9\-,\s]+)", re.IGNORECASE)
_RANGE = re.compile(rb"([0-9]{0,18})-([0-9]{0,18})")


def parse_ranges(value: bytes, size: int) -> list[ByteRange] | Unsatisfiable | None:
    """What a Range asks for, in its order; None: ignore it and send the whole.

    Ignored are other units, syntax errors, `first > last`, more than MAX_RANGES, and ranges that overlap so
    much that together they are longer than the whole.
    """
    match = _RANGES.fullmatch(value.strip(b" \t"))
    specs = [s.strip() for s in match[1].split(b",") if s.strip()] if match else []
    if not 0 < len(specs) <= MAX_RANGES:
        return None
    ranges: list[ByteRange] = []
    for spec in specs:
        found = _range(spec, size)
        if found is None:
            return None
        ranges += found
    if not ranges:
        # An empty content has no byte that a Content-Range could name.
        return Unsatisfiable(size)
    return ranges if sum(last - first + 1 for first, last in ranges) <= size else None


def _range(spec: bytes, size: int) -> list[ByteRange] | None:
    """One member: [] if it lies outside, None if it is malformed."""
    match = _RANGE.fullmatch(spec)
    if match is None or spec == b"-":
        return None
    if not match[1]:
        suffix = min(int(match[2]), size)
        return [(size - suffix, size - 1)] if suffix else []
    first, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and first > last:
        return None
    return [(first, min(last, size - 1))] if first < size else []


def content_range(first: int, last: int, size: int) -> bytes:
    """The Content-Range of a 206."""
    return b"bytes %d-%d/%d" % (first, last, size)
