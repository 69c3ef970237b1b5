"""Parsers never raise, and give back what was written: over any bytes, and over what comes close to right."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buffy_proxy.core import fields as f
from buffy_proxy.core.fields import ANY, ETag
from buffy_proxy.core.model import Fields
from tests.core.make import T
from tests.core.wild import REQUEST_FIELDS, RESPONSE_FIELDS

NEAR = st.lists(
    st.sampled_from([*b'"\\,;=-*/: \t\r\n\0\xffaW0', 0x80]).map(lambda n: bytes([n]))
    | st.sampled_from([b"bytes=", b"W/", b" GMT", b"Nov", b"Sun, ", b"max-age", b"sha-256=:", b"1994", b"06"])
).map(b"".join)
"""Bytes out of what these grammars are made of."""

ANYTHING = st.binary() | NEAR


@given(ANYTHING, st.integers(0, 100), st.none() | st.floats(allow_nan=False))
@example(b"9" * 5000, 0, None)
@example(b"Sun, 06 Nov 0000 08:49:37 GMT", 0, T)
@example(b"Sunday, 06-Nov-94 08:49:37 GMT", 0, float("inf"))
def test_no_parser_of_values_raises(value: bytes, size: int, now: float | None) -> None:
    text = value.decode("latin-1")
    seconds = f.delta_seconds(text)
    assert seconds is None or 0 <= seconds <= 2**31
    f.http_date(value, now)
    f.parse_etag(value)
    f.parse_etags(value)
    f.sf_string(text)
    ranges = f.parse_ranges(value, size)
    if isinstance(ranges, list):
        assert ranges and all(0 <= a <= b < size for a, b in ranges)
        assert sum(b - a + 1 for a, b in ranges) <= size
    with contextlib.suppress(ValueError):
        f.normalise_url(text)


@given(st.one_of(RESPONSE_FIELDS, REQUEST_FIELDS, ANYTHING.map(f.parse_block)))
def test_no_parser_of_fields_raises(given: Fields) -> None:
    for name in (b"cache-control", b"pragma", b"x-a"):
        assert all(n == n.lower() != "" for n in f.directives(given, name))
    options = f.connection_options(given)
    assert all(option == option.strip(b" \t").lower() for option in options)
    listed = f.vary_names(given)
    assert listed is ANY or all(name == name.lower() for name in listed)
    later = f.retry_after(given, T)
    assert later is None or later >= 0
    digest = f.declared_sha256(given)
    assert digest is None or len(bytes.fromhex(digest)) == 32


@given(st.one_of(RESPONSE_FIELDS, REQUEST_FIELDS))
def test_access_agrees_with_itself(given: Fields) -> None:
    """The ways to look at fields tell the same story."""
    for name in f.names(given):
        every = f.get_all(given, name.upper())
        assert f.first(given, name) == every[0] and f.combined(given, name) == b", ".join(every)
        assert f.get_all(f.with_field(given, name, b"new"), name) == [b"new"]
        assert f.names(f.without(given, [name.upper()])) == f.names(given) - {name}
    once = f.end_to_end(given)
    assert f.end_to_end(once) == once and not f.names(once) & f.HOP_BY_HOP
    assert sum(len(f.get_all(given, name)) for name in f.names(given)) == len(given)


# -- what is written is read --------------------------------------------------------------------------------


@given(st.integers(0, 253402300799))
def test_dates(posix_s: int) -> None:
    assert f.http_date(f.format_http_date(posix_s)) == posix_s


OPAQUE = st.binary(max_size=12).map(
    lambda b: b'"' + bytes(c for c in b if c > 0x1F and c not in b'\x7f"') + b'"'
)
TAGS = st.builds(ETag, OPAQUE, st.booleans())


@given(st.lists(TAGS, max_size=5), st.sampled_from([b",", b", ", b" ,\t", b",,"]))
def test_entity_tags(tags: list[ETag], comma: bytes) -> None:
    assert f.parse_etags(comma.join(map(bytes, tags))) == tuple(tags)
    assert all(f.parse_etag(b" " + bytes(tag) + b"\t") == tag for tag in tags)


TOKENS = st.text("abcxyz-_!~09", min_size=1, max_size=6)
ARGUMENTS = (
    st.none() | TOKENS | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=8)
)
DIRECTIVES = st.dictionaries(TOKENS, ARGUMENTS, max_size=5)


def directive(name: str, argument: str | None) -> str:
    """As RFC 9111 §5.2 writes it: a quoted string where the argument is no token."""
    if argument is None:
        return name
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


@given(DIRECTIVES, st.sampled_from([",", ", ", " ,\t, "]), st.booleans())
def test_directives(said: dict[str, str | None], comma: str, apart: bool) -> None:
    """In one line, or a line each."""
    members = [directive(name, argument) for name, argument in said.items()]
    values = members if apart else [comma.join(members)]
    lines = tuple((b"cache-CONTROL", value.encode("latin-1")) for value in values)
    assert f.directives(lines) == said


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), min_size=1, max_size=4))
def test_ranges(wanted: list[list[int]]) -> None:
    text = ", ".join(f"{a}-{b}" for a, b in wanted)
    size = max(100, sum(b - a + 1 for a, b in wanted))
    assert f.parse_ranges(f"bytes={text}".encode(), size) == [(a, b) for a, b in wanted]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_structured_strings(text: str) -> None:
    """Read as RFC 9651 §4.2.5 says."""
    written, read = f.sf_string(text)[1:-1], ""
    while written:
        skip = 1 if written[0] == "\\" else 0
        read, written = read + written[skip], written[skip + 1 :]
    assert read == text


@given(st.sampled_from([b"Vary", b"Connection"]), st.lists(TOKENS), st.sampled_from([b",", b", ", b" ,, "]))
def test_lists_of_names(field: bytes, listed: list[str], comma: bytes) -> None:
    lines = ((field, comma.join(name.upper().encode() for name in listed)),)
    parse = {b"Vary": f.vary_names, b"Connection": f.connection_options}[field]
    assert parse(lines) == frozenset(name.encode() for name in listed)


@pytest.mark.parametrize("url", ["http://h/%2F?a=%41&&#x", "https://[::1]:8443/é?", "HTTP://U:p@H:80"])
def test_urls_are_normal_after_once(url: str) -> None:
    once = f.normalise_url(url)
    assert f.normalise_url(once) == once
    scheme, host, port = f.origin_of(once)
    assert f.origin_of(f"{scheme}://{host}:{port}/") == (scheme, host, port)
