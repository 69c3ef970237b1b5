"""What stored parts answer, alone and combined: RFC 9111 §3.3, §3.4, RFC 9110 §14, §15.3.7."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.fields import content_range, first
from buffy_proxy.core.model import Response, Version
from buffy_proxy.core.parts import Slice, Span, combined_head, pieces, slice_of, span, stored_fields, union
from tests.core.make import fields, request, version

WHOLE = bytes(range(20))


def part(begin: int, end: int, *lines: str, asked: str = "", etag: str = '"a"') -> tuple[Version, bytes]:
    """Bytes begin to end of WHOLE as a 206 that answered `Range: asked`, and its content."""
    content = WHOLE[begin : end + 1]
    made = version(
        f"Content-Range: bytes {begin}-{end}/{len(WHOLE)}",
        f"ETag: {etag}",
        *lines,
        status=206,
        body=content,
        asked=fields(f"Range: {asked or f'bytes={begin}-{end}'}"),
    )
    return made, content


def combine(old: tuple[Version, bytes], new: tuple[Version, bytes]) -> tuple[Version, bytes] | None:
    whole = union(old[0], new[0])
    if whole is None:
        return None
    of = {id(one): content for one, content in (old, new)}
    content = b"".join(of[id(one)][at : at + size] for one, at, size in pieces(old[0], new[0]))
    return replace(combined_head(new[0], whole), body=replace(new[0].body, size=len(content))), content


def answer(held: tuple[Version, bytes], asked: str, *lines: str) -> tuple[bytes, bytes] | None:
    """Content-Range and bytes."""
    found = slice_of(request(f"Range: {asked}", *lines), held[0])
    return found and (found.content_range, held[1][found.offset : found.offset + found.length])


ASKED = [
    ("§3.3 the same", "bytes=5-9", (5, 9)),
    ("§3.3 within", "bytes=6-8", (6, 8)),
    ("§3.3 not wholly within", "bytes=4-9", None),
    ("§3.3 nor at the end", "bytes=5-10", None),
    ("§3.3 apart", "bytes=0-1", None),
    ("RFC 9110 §14.1.2 to the end", "bytes=5-", None),
    ("RFC 9110 §14.1.2 suffix", "bytes=-3", None),
    ("RFC 9110 §14.2 several", "bytes=5-6,8-9", None),
    ("RFC 9110 §14.2 malformed", "bytes=9-5", None),
    ("RFC 9110 §14.2 another unit", "lines=5-9", None),
    ("RFC 9110 §15.5.17 beyond", "bytes=20-", None),
]


@pytest.mark.parametrize(("clause", "asked", "span_"), ASKED, ids=[row[0] for row in ASKED])
def test_a_part_answers_what_lies_within(clause: str, asked: str, span_: tuple[int, int] | None) -> None:
    wanted = span_ and (content_range(*span_, len(WHOLE)), WHOLE[span_[0] : span_[1] + 1])
    assert answer(part(5, 9), asked) == wanted


IF_RANGE = [('"a"', True), ('"b"', False), ('W/"a"', False), ("Thu, 01 Jan 1970 00:00:00 GMT", False)]


@pytest.mark.parametrize(("condition", "holds"), IF_RANGE)
def test_if_range_rfc9110_13_1_5(condition: str, holds: bool) -> None:
    assert (answer(part(5, 9), "bytes=5-9", f"If-Range: {condition}") is not None) == holds


@pytest.mark.parametrize("asked", ["bytes=5-9", "bytes=0-4", "bytes=3-7"])
def test_a_union_answers_the_range_that_is_asked_not_all_it_has(asked: str) -> None:
    held = combine(part(0, 4), part(5, 9))
    assert held is not None
    begin, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
    assert answer(held, asked) == (content_range(begin, end, len(WHOLE)), WHOLE[begin : end + 1])


def test_content_shorter_than_announced_is_the_beginning_rfc9111_3_3() -> None:
    short = replace(part(5, 9)[0], body=replace(part(5, 9)[0].body, size=3))
    assert span(short.fields, 3) == Span(5, 7, 20)
    assert slice_of(request("Range: bytes=5-9"), short) == Slice(0, 3, b"bytes 5-7/20")


UNITED: list[tuple[str, tuple[int, int], tuple[int, int], str, tuple[int, int] | None]] = [
    ("§3.4 neighbours", (0, 4), (5, 9), '"a"', (0, 9)),
    ("§3.4 neighbours, the other way", (5, 9), (0, 4), '"a"', (0, 9)),
    ("§3.4 overlapping", (0, 6), (5, 9), '"a"', (0, 9)),
    ("§3.4 one within the other", (0, 9), (3, 4), '"a"', (0, 9)),
    ("§3.4 the whole", (0, 9), (10, 19), '"a"', (0, 19)),
    ("a gap", (0, 4), (6, 9), '"a"', None),
    ("§3.4 another representation", (0, 4), (5, 9), '"b"', None),
    ("§3.4 strong validators only", (0, 4), (5, 9), 'W/"a"', None),
]


@pytest.mark.parametrize(("clause", "one", "other", "etag", "held"), UNITED, ids=[row[0] for row in UNITED])
def test_unions(
    clause: str, one: tuple[int, int], other: tuple[int, int], etag: str, held: tuple[int, int] | None
) -> None:
    made = combine(part(*one), part(*other, etag=etag))
    if held is None:
        assert made is None
        return
    assert made is not None
    head, content = made
    assert content == WHOLE[held[0] : held[1] + 1]
    complete = held == (0, len(WHOLE) - 1)
    assert head.status == (200 if complete else 206)
    assert first(head.fields, b"content-range") == (None if complete else content_range(*held, len(WHOLE)))
    assert first(head.fields, b"content-length") == (b"20" if complete else None)


def test_two_weak_tags_are_not_one_representation() -> None:
    assert combine(part(0, 4, etag='W/"a"'), part(5, 9, etag='W/"a"')) is None


@pytest.mark.parametrize("name", ["Content-Length", "Content-Digest", "Content-MD5"])
def test_what_describes_one_answers_bytes_is_not_kept_rfc9530_2(name: str) -> None:
    kept = stored_fields(Response(206, b"", fields(f"{name}: x", 'ETag: "a"', "Repr-Digest: y")))
    assert kept == fields('ETag: "a"', "Repr-Digest: y")


CONTENT_RANGES = [
    ("RFC 9110 §14.4", "bytes 0-4/20", Span(0, 4, 20)),
    ("RFC 9110 §14.4 case", "BYTES 0-4/20", Span(0, 4, 20)),
    ("RFC 9110 §14.4 unknown length", "bytes 0-4/*", None),
    ("RFC 9110 §14.4 unsatisfied", "bytes */20", None),
    ("RFC 9110 §14.4 last before first", "bytes 4-0/20", None),
    ("RFC 9110 §14.4 length within", "bytes 0-4/4", None),
    ("RFC 9110 §14.4 another unit", "lines 0-4/20", None),
    ("RFC 9110 §14.4 rubbish", "0-4/20", None),
]


@pytest.mark.parametrize(("clause", "value", "found"), CONTENT_RANGES, ids=[r[0] for r in CONTENT_RANGES])
def test_content_range(clause: str, value: str, found: Span | None) -> None:
    assert span(fields(f"Content-Range: {value}"), 5) == found
    assert span(fields(f"Content-Range: {value}", f"Content-Range: {value}"), 5) is None


spans = st.tuples(st.integers(0, 19), st.integers(0, 19)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(spans, min_size=1, max_size=6), spans)
def test_whatever_was_combined_answers_with_the_bytes_of_the_whole(
    come: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    held = part(*come[0])
    for begin, end in come[1:]:
        made = combine(held, part(begin, end)) if held[0].status == 206 else held
        held = made or part(begin, end)
    if held[0].status == 200:
        assert held[1] == WHOLE
    elif (found := answer(held, f"bytes={asked[0]}-{asked[1]}")) is not None:
        assert found == (content_range(*asked, len(WHOLE)), WHOLE[asked[0] : asked[1] + 1])
