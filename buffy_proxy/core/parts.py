"""Partial content that is stored: RFC 9111 §3.3 and §3.4, RFC 9110 §14 and §15.3.7.

A *part* is a response 206 kept beside the versions of a resource: one run of bytes of a representation whose
length is known. It answers ranges that lie wholly within it. Two parts of the same representation (the same
strong ETag, the same length) that touch are combined; when nothing is missing any more, it is a version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from buffy_proxy.core.conditional import if_range_holds
from buffy_proxy.core.fields import (
    content_range,
    end_to_end,
    first,
    get_all,
    parse_etag,
    parse_ranges,
    with_field,
    without,
)
from buffy_proxy.core.model import Fields, Request, Response, Version

PARTIAL: Final = 206

_CONTENT_RANGE = re.compile(rb"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last` (inclusive) of a representation of `total` bytes."""

    first: int
    last: int
    total: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def touches(self, other: Span) -> bool:
        """Whether both overlap or are neighbours in the same representation."""
        return self.total == other.total and self.first <= other.last + 1 and other.first <= self.last + 1


def span(fields: Fields, size: int) -> Span | None:
    """Which bytes a 206 with content of `size` bytes holds; None if that cannot be said for certain.

    Content that is shorter than its Content-Range is the beginning of it (RFC 9111 §3.3); a longer one, or
    ranges that make no sense (RFC 9110 §14.4), are nothing.
    """
    values = get_all(fields, b"content-range")
    match = _CONTENT_RANGE.fullmatch(values[0].strip(b" \t")) if len(values) == 1 else None
    if match is None or size < 1:
        return None
    begin, end, total = (int(number) for number in match.groups())
    if not begin <= end < total or size > end - begin + 1:
        return None
    return Span(begin, begin + size - 1, total)


# -- storing ------------------------------------------------------------------------------------------------

_Row = tuple[str, Callable[[Request, Response], bool], str]

_UNUSABLE: Final[tuple[_Row, ...]] = (
    ("RFC 9110 §14.2", lambda a, r: a.method != "GET", "Range is for GET"),
    ("RFC 9110 §14.2", lambda a, r: len(get_all(a.fields, b"range")) != 1, "not exactly one Range"),
    ("RFC 9110 §15.3.7", lambda a, r: r.status != PARTIAL, "not a part"),
    ("RFC 9110 §14.4", lambda a, r: span(r.fields, 1) is None, "Content-Range is missing or invalid"),
)
"""Clause, whether the answer is no part that can be kept, why."""


def no_part(request: Request, response: Response) -> str | None:
    """Why a 206 cannot be kept as a part, None if it can."""
    return next((f"{why} ({clause})" for clause, holds, why in _UNUSABLE if holds(request, response)), None)


def stored_fields(response: Response) -> Fields:
    """What is kept of the head: length and digest are those of one answer; others get other bytes of it."""
    return without(end_to_end(response.fields), (b"content-length", b"content-digest", b"content-md5"))


# -- combining (RFC 9111 §3.4) ------------------------------------------------------------------------------


def union(old: Version, new: Version) -> Span | None:
    """What both parts hold together; None if they are not known to be of one representation, or do not
    touch."""
    a, b = span(old.fields, old.body.size), span(new.fields, new.body.size)
    one, other = (parse_etag(first(v.fields, b"etag")) for v in (old, new))
    if a is None or b is None or one is None or other is None or not one.same_strongly(other):
        return None
    return Span(min(a.first, b.first), max(a.last, b.last), a.total) if a.touches(b) else None


def pieces(old: Version, new: Version) -> Sequence[tuple[Version, int, int]]:
    """Where the bytes of a union come from, in order: version, offset in its content, length. The newer one
    goes before the older one where both have bytes."""
    a, b = span(old.fields, old.body.size), span(new.fields, new.body.size)
    assert a is not None and b is not None
    before, after = max(0, b.first - a.first), max(0, a.last - b.last)
    found = ((old, 0, before), (new, 0, b.size), (old, a.size - after, after))
    return [(version, offset, length) for version, offset, length in found if length > 0]


def combined_head(new: Version, whole: Span) -> Version:
    """The head of a union: the newer part's fields (RFC 9111 §3.4), a 200 if nothing is missing. It
    answers no Range in particular."""
    new = replace(new, request_fields=without(new.request_fields, (b"range",)))
    if whole.size < whole.total:
        fields = with_field(new.fields, b"Content-Range", content_range(whole.first, whole.last, whole.total))
        return replace(new, fields=fields)
    fields = with_field(without(new.fields, (b"content-range",)), b"Content-Length", b"%d" % whole.total)
    return replace(new, status=200, reason=b"OK", fields=fields)


# -- answering ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """What goes out of a part: `length` bytes from `offset` of its content, and their Content-Range."""

    offset: int
    length: int
    content_range: bytes


def slice_of(request: Request, part: Version) -> Slice | None:
    """What the part answers to a request; None: nothing (RFC 9111 §3.3: only what lies wholly within)."""
    wanted = get_all(request.fields, b"range")
    held = span(part.fields, part.body.size)
    if request.method != "GET" or len(wanted) != 1 or held is None or not if_range_holds(request, part):
        return None
    if wanted[0] == first(part.request_fields, b"range"):  # the same question has the same answer
        return Slice(0, held.size, content_range(held.first, held.last, held.total))
    ranges = parse_ranges(wanted[0], held.total)
    if not isinstance(ranges, list) or len(ranges) != 1:
        return None
    begin, end = ranges[0]
    if not held.first <= begin <= end <= held.last:
        return None
    return Slice(begin - held.first, end - begin + 1, content_range(begin, end, held.total))
