"""Conditional requests and ranges: RFC 9110 §13 and §14, RFC 9111 §3.2 and §4.3.

Towards the origin: a stored version is validated with its ETag and Last-Modified, and a 304 freshens its
fields. Towards the client: the client's own conditions and Range are answered from the stored version, in
the order of RFC 9110 §13.2.2: If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, and then
Range with If-Range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from buffy_proxy.core.fields import (
    ANY,
    ByteRange,
    Unsatisfiable,
    combined,
    content_range,
    end_to_end,
    first,
    format_http_date,
    get_all,
    http_date,
    names,
    parse_etag,
    parse_etags,
    parse_ranges,
    without,
)
from buffy_proxy.core.freshness import date_value, last_modified
from buffy_proxy.core.model import Fields, Request, Response, Version

CONDITIONS: Final = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)
"""The precondition fields (RFC 9110 §13.1)."""

# -- towards the origin -------------------------------------------------------------------------------------


def conditional_fields(version: Version) -> Fields:
    """The fields that make a request a validation (RFC 9111 §4.3.1); () if there is no validator."""
    found = []
    if (etag := parse_etag(first(version.fields, b"etag"))) is not None:
        found.append((b"If-None-Match", bytes(etag)))
    if last_modified(version.fields) is not None:
        found.append((b"If-Modified-Since", first(version.fields, b"last-modified") or b""))
    return tuple(found)


def confirms(version: Version, response: Response) -> bool:
    """Whether a 304 is about this version (RFC 9111 §4.3.4): an ETag in it must be the version's own, and
    where there are not two ETags to compare, so must be a Last-Modified.

    An origin that answers 304 and names another validator has not confirmed what is stored: fetch again. One
    without any answers the condition that was sent.
    """
    new, old = parse_etag(first(response.fields, b"etag")), parse_etag(first(version.fields, b"etag"))
    if new is not None and old is not None:
        return new.same_weakly(old)
    then, before = last_modified(response.fields), last_modified(version.fields)
    if then is not None and before is not None:
        return then == before
    return new is None


def same_representation(version: Version, head: Response) -> bool:
    """Whether a 200 to HEAD is about what is stored: what both give of ETag, Last-Modified and Content-Length
    must be equal (RFC 9111 §4.3.5)."""
    length = first(head.fields, b"content-length")
    if length is not None and length.strip() != b"%d" % version.body.size:
        return False
    both = ((first(version.fields, n), first(head.fields, n)) for n in (b"etag", b"last-modified"))
    return all(old is None or new is None or old == new for old, new in both)


NOT_FRESHENED: Final = frozenset({b"content-length", b"content-encoding", b"content-range"})
"""What describes the stored bytes stays as it is, whatever a 304 says (RFC 9111 §3.2)."""


def freshen(version: Version, response: Response, requested_at: float, received_at: float) -> Version:
    """The version with the fields that a 304 (or the head of an identical response) brings, RFC 9111 §3.2.

    Fields it omits are kept, but for Date and Age: they belong to the message, and the old ones would make
    the version look as old as before. `fresh_until` is the strategy's business: see `planned`.
    """
    new = without(end_to_end(response.fields), NOT_FRESHENED)
    if first(new, b"date") is None:
        new = (*new, (b"Date", format_http_date(received_at)))
    kept = without(version.fields, {n for n, _ in new} | {b"age"})
    return replace(
        version,
        fields=(*kept, *new),
        requested_at=requested_at,
        received_at=received_at,
        validated_at=received_at,
    )


# -- the client's conditions --------------------------------------------------------------------------------


def precondition(request: Request, version: Version) -> Literal["304", "412"] | None:
    """What the client's conditions make of this version; None: send it. Only a 2xx has conditions, and only
    for GET and HEAD a stored response can tell (RFC 9110 §13.2.1, RFC 9111 §4.3.2)."""
    if request.method not in ("GET", "HEAD") or not 200 <= version.status < 300:
        return None
    if CONDITIONS.isdisjoint(names(request.fields)):
        return None
    if not satisfies_match(request, version):
        return "412"
    return "304" if _not_modified(request, version) else None


def satisfies_match(request: Request, version: Version) -> bool:
    """If-Match, else If-Unmodified-Since (RFC 9110 §13.1.1, §13.1.4). A fresh version that fails here may
    only be behind the origin, so `decide` has it validated before anybody says 412."""
    wanted = combined(request.fields, b"if-match")
    if wanted is not None:
        etag, tags = parse_etag(first(version.fields, b"etag")), parse_etags(wanted)
        return tags is ANY or (etag is not None and any(etag.same_strongly(t) for t in tags))
    since = _date(request, b"if-unmodified-since")
    modified = last_modified(version.fields)
    return since is None or modified is None or modified <= since


def _not_modified(request: Request, version: Version) -> bool:
    """If-None-Match, else If-Modified-Since (RFC 9110 §13.1.2, §13.1.3). Without Last-Modified, Date stands
    in, and without that the time it came (RFC 9111 §4.3.2)."""
    known = combined(request.fields, b"if-none-match")
    if known is not None:
        etag, tags = parse_etag(first(version.fields, b"etag")), parse_etags(known)
        return tags is ANY or (etag is not None and any(etag.same_weakly(t) for t in tags))
    since = _date(request, b"if-modified-since")
    if since is None:
        return False
    modified = last_modified(version.fields)
    return (date_value(version.fields, version.received_at) if modified is None else modified) <= since


def _date(request: Request, name: bytes) -> float | None:
    """A repeated or invalid date is as good as none (RFC 9110 §13.1.3)."""
    values = get_all(request.fields, name)
    return http_date(values[0]) if len(values) == 1 else None


# -- ranges -------------------------------------------------------------------------------------------------


def byte_range(request: Request, version: Version) -> list[ByteRange] | Unsatisfiable | None:
    """The parts of the stored whole that the client asks for; None: the whole (RFC 9110 §14.2).

    Ranges are defined for GET and for a 200 only; an If-Range that does not hold means the whole.
    """
    wanted = get_all(request.fields, b"range")
    if request.method != "GET" or version.status != 200 or len(wanted) != 1:
        return None
    if not if_range_holds(request, version):
        return None
    return parse_ranges(wanted[0], version.body.size)


def if_range_holds(request: Request, version: Version) -> bool:
    """Strong comparison only (RFC 9110 §13.1.5): a date must be exactly Last-Modified, and that at least a
    second older than Date, else two representations could share it (§8.8.2.2)."""
    condition = combined(request.fields, b"if-range")
    if condition is None:
        return True
    date = http_date(condition)
    if date is not None:
        age_then = date_value(version.fields, version.received_at) - date
        return date == last_modified(version.fields) and age_then >= 1
    wanted, etag = parse_etag(condition), parse_etag(first(version.fields, b"etag"))
    return wanted is not None and etag is not None and wanted.same_strongly(etag)


@dataclass(frozen=True, slots=True)
class Multipart:
    """A 206 of several ranges (RFC 9110 §14.6, §15.3.7.2): send `head`, then the bytes of `range`, for each
    part, then `tail`. `length` is the Content-Length of it all."""

    content_type: bytes
    parts: tuple[tuple[bytes, ByteRange], ...]
    tail: bytes
    length: int


def multipart(version: Version, ranges: list[ByteRange]) -> Multipart:
    """How several ranges of the version go out. The boundary comes from the body's digest: it does not change
    from answer to answer, and no content can be made to hold the digest of itself."""
    boundary = b"buffy-" + version.body.digest[:40].encode("latin-1", "replace")
    kind = first(version.fields, b"content-type")
    parts = tuple((_part_head(boundary, kind, r, version.body.size), r) for r in ranges)
    tail = b"\r\n--%s--\r\n" % boundary
    length = sum(len(head) + last - start + 1 for head, (start, last) in parts) + len(tail)
    return Multipart(b"multipart/byteranges; boundary=" + boundary, parts, tail, length)


def _part_head(boundary: bytes, kind: bytes | None, wanted: ByteRange, size: int) -> bytes:
    type_line = b"" if kind is None else b"Content-Type: %s\r\n" % kind
    return b"\r\n--%s\r\n%sContent-Range: %s\r\n\r\n" % (boundary, type_line, content_range(*wanted, size))
