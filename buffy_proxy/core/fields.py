"""HTTP fields: ordered, multi-valued, case-insensitive. Parses and writes, decides nothing.

Parsers accept any bytes and never raise. The values inside fields (dates, entity tags, ranges), target URIs
and the fields Buffy adds live in modules of their own and are offered here too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from buffy_proxy.core.marks import Fwd, cache_status, sf_string, via
from buffy_proxy.core.model import Fields
from buffy_proxy.core.urls import authority_of, normalise_url, origin_of
from buffy_proxy.core.values import (
    ANY,
    ByteRange,
    ETag,
    Star,
    Unsatisfiable,
    content_range,
    delta_seconds,
    format_http_date,
    http_date,
    parse_etag,
    parse_etags,
    parse_ranges,
)

__all__ = [
    "ANY",
    "HOP_BY_HOP",
    "ByteRange",
    "ETag",
    "Fwd",
    "Star",
    "Unsatisfiable",
    "authority_of",
    "cache_status",
    "combined",
    "connection_options",
    "content_range",
    "declared_sha256",
    "delta_seconds",
    "directives",
    "end_to_end",
    "first",
    "format_http_date",
    "framed",
    "get_all",
    "http_date",
    "names",
    "normalise_url",
    "origin_of",
    "parse_block",
    "parse_etag",
    "parse_etags",
    "parse_ranges",
    "printable",
    "retry_after",
    "serialise_block",
    "sf_string",
    "vary_names",
    "via",
    "with_field",
    "without",
]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"http2-settings",  # RFC 7540 §3.2.1
        b"keep-alive",
        b"proxy-authenticate",  # RFC 9110 §11.7: for the next proxy only
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",  # we do not pass trailers on, so we do not announce them
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields (lower case) for one connection only: neither forwarded nor stored (RFC 9110 §7.6.1)."""


# -- access -------------------------------------------------------------------------------------------------


def get_all(fields: Fields, name: bytes) -> list[bytes]:
    """The values of all lines with this name, in order."""
    name = name.lower()
    return [v for n, v in fields if n.lower() == name]


def first(fields: Fields, name: bytes) -> bytes | None:
    """The value of the first line with this name, None if there is none."""
    name = name.lower()
    return next((v for n, v in fields if n.lower() == name), None)


def combined(fields: Fields, name: bytes) -> bytes | None:
    """All values joined by ", " (RFC 9110 §5.3); None if the field is absent."""
    values = get_all(fields, name)
    return b", ".join(values) if values else None


def names(fields: Fields) -> frozenset[bytes]:
    """The lower-case names that occur."""
    return frozenset([n.lower() for n, _ in fields])


def without(fields: Fields, names: Iterable[bytes]) -> Fields:
    """`fields` without the lines of these names."""
    gone = frozenset(n.lower() for n in names)
    return tuple((n, v) for n, v in fields if n.lower() not in gone)


def with_field(fields: Fields, name: bytes, value: bytes) -> Fields:
    """`fields` with one line of this name: in the place of the first there was, else at the end."""
    lower, out, placed = name.lower(), [], False
    for n, v in fields:
        if n.lower() != lower:
            out.append((n, v))
        elif not placed:
            out.append((name, value))
            placed = True
    return tuple(out) if placed else (*out, (name, value))


# -- blocks -------------------------------------------------------------------------------------------------


def parse_block(block: bytes) -> Fields:
    """Fields from `Name: value` lines ended by CRLF or LF. Lines without a colon are skipped, obsolete line
    folding is undone (RFC 9112 §5.2), white space around values is dropped."""
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", block)
    fields = []
    for line in re.split(rb"\r?\n", unfolded):
        name, colon, value = line.partition(b":")
        if colon and name.strip(b" \t"):
            fields.append((name.strip(b" \t"), value.strip(b" \t")))
    return tuple(fields)


def serialise_block(fields: Fields) -> bytes:
    """`Name: value` lines, each ended by CRLF, without the empty line that ends a head."""
    return b"".join(b"%s: %s\r\n" % line for line in fields)


_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]+ *")


def printable(value: bytes) -> bytes:
    """A value without folding and control characters: a space stands for each run of them
    (RFC 9110 §5.5, RFC 9112 §5.2)."""
    return _CONTROLS.sub(b" ", value)


def framed(status: int, fields: Fields) -> Fields:
    """Response fields whose Content-Length, if there is one, frames: one beside a Transfer-Encoding is void
    (RFC 9112 §6.3), one in a 1xx or 204 is a trap for whoever believes it (RFC 9110 §8.6)."""
    void = status < 200 or status == 204 or b"transfer-encoding" in names(fields)
    return without(fields, (b"content-length",)) if void else fields


# -- hop by hop ---------------------------------------------------------------------------------------------


def connection_options(fields: Fields) -> frozenset[bytes]:
    """Lower-case names that Connection lists."""
    return _listed(combined(fields, b"connection"))


def end_to_end(fields: Fields) -> Fields:
    """`fields` without those for one connection only: HOP_BY_HOP and what Connection names (RFC 9110 §7.6.1).

    Connection cannot remove the fields that frame or guard a message: naming them is an attack, not an
    option.
    """
    named = connection_options(fields) - _NOT_OPTIONS
    return tuple((n, v) for n, v in fields if (lower := n.lower()) not in HOP_BY_HOP and lower not in named)


_NOT_OPTIONS: Final = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-length",
        b"content-encoding",
        b"content-type",
        b"cookie",
        b"host",
    }
    | {b"set-cookie", b"vary"}
)


# -- directives and lists -----------------------------------------------------------------------------------

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEMBER = re.compile(r'(?:[^,"]++|"(?:\\.|[^"\\])*+")*+', re.DOTALL)
_DIRECTIVE = re.compile(rf"({_TOKEN})(.*)", re.DOTALL)
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)


def directives(fields: Fields, name: bytes = b"cache-control") -> Mapping[str, str | None]:
    """Lower-case directives and their arguments, None where there is none (RFC 9111 §5.2).

    Of a repeated directive the first counts (RFC 9111 §4.2.1), but `no-cache` and `private` add up. Quoted
    strings are unquoted; a malformed argument stays as it is, so that `delta_seconds` finds it invalid;
    members that do not start with a token are skipped.
    """
    value = combined(fields, name)
    return _NOTHING_SAID if value is None else _directives(value)


_NOTHING_SAID: Final[Mapping[str, str | None]] = MappingProxyType({})


@lru_cache(maxsize=4096)
def _directives(value: bytes) -> Mapping[str, str | None]:
    """Remembered, since the same few values come with most messages."""
    found: dict[str, str | None] = {}
    for member in _members(value.decode("latin-1")):
        if match := _DIRECTIVE.fullmatch(member.strip(" \t")):
            directive, argument = match[1].lower(), _argument(match[2])
            if directive in _FIELD_LISTS and directive in found:
                argument = _both(found.pop(directive), argument)
            found.setdefault(directive, argument)
    return MappingProxyType(found)


_FIELD_LISTS: Final = frozenset({"no-cache", "private"})


def _both(one: str | None, other: str | None) -> str | None:
    """Two lists of fields are one; without a list it is about everything, and that counts."""
    return f"{one},{other}" if one and other else None


def _members(text: str) -> Iterator[str]:
    """The members of a list, split at commas outside quoted strings. A quote that nobody closes is an
    ordinary character: else `max-age="9, no-store` would hide the no-store."""
    at = 0
    while at <= len(text):
        match = _MEMBER.match(text, at)
        end = match.end() if match else len(text)
        if text[end : end + 1] == '"':
            yield from text[at:].split(",")
            return
        yield text[at:end]
        at = end + 1


def _argument(rest: str) -> str | None:
    """`rest` is what follows the name. White space around "=" is malformed, so it stays in the argument."""
    if not rest:
        return None
    if rest[0] != "=":
        return rest
    quoted = _QUOTED.fullmatch(rest[1:])
    return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL) if quoted else rest[1:]


def vary_names(fields: Fields) -> frozenset[bytes] | Star:
    """Lower-case names of the request fields that Vary nominates; ANY if it holds `*` (RFC 9110 §12.5.5)."""
    listed = _listed(combined(fields, b"vary"))
    return ANY if b"*" in listed else listed


def retry_after(fields: Fields, now: float) -> float | None:
    """Seconds from `now` for which the origin wants to be left alone, never negative; None if it does not say
    or does so in no valid form (RFC 9110 §10.2.3)."""
    value = first(fields, b"retry-after")
    if value is None:
        return None
    seconds = delta_seconds(value.strip(b" \t").decode("latin-1"))
    if seconds is not None:
        return float(seconds)
    date = http_date(value, now)
    return None if date is None else max(0.0, date - now)


_SHA256: Final = re.compile(rb"(?:^|[, \t])sha-256\s*=\s*:([A-Za-z0-9+/]{43}=):")


def declared_sha256(fields: Fields) -> str | None:
    """The lower-case hex sha-256 that the sender declares for the content (Content-Digest, RFC 9530 §2);
    None if there is none, or none in a valid form."""
    match = _SHA256.search(combined(fields, b"content-digest") or b"")
    return None if match is None else base64.b64decode(match[1]).hex()


def _listed(value: bytes | None) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    return frozenset(n for part in value.split(b",") if (n := part.strip(b" \t").lower()))
