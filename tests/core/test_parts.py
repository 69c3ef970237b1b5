"""Partial content that is stored, combined and served: RFC 9111 §3.3, §3.4, RFC 9110 §14."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.model import BodyRef, Version
from buffy_proxy.core.parts import Slice, Span, combined_head, pieces, slice_of, span, union
from buffy_proxy.core.rules import Forward, Serve, decide
from buffy_proxy.core.storing import storable_part
from tests.core.make import HTTP, NEVER, T, fields, request, response, version

WHOLE = b"0123456789"
TAGGED = 'ETag: "a"'


def part(begin: int, end: int, *lines: str, asked: str = "", total: int = 10) -> Version:
    """Bytes `begin` to `end` of WHOLE."""
    held = fields(f"Range: {asked or f'bytes={begin}-{end}'}")
    head = (f"Content-Range: bytes {begin}-{end}/{total}", *(lines or (TAGGED,)))
    return version(*head, status=206, body=WHOLE[begin : end + 1], asked=held)


SPANS: list[tuple[str, list[str], int, Span | None]] = [
    ("§14.4", ["Content-Range: bytes 2-4/10"], 3, Span(2, 4, 10)),
    ("§14.4 case and space", ["Content-Range: BYTES  2-4/10 "], 3, Span(2, 4, 10)),
    ("RFC 9111 §3.3 incomplete", ["Content-Range: bytes 2-9/10"], 3, Span(2, 4, 10)),
    ("§14.4 longer than it says", ["Content-Range: bytes 2-4/10"], 4, None),
    ("§14.4 last before first", ["Content-Range: bytes 4-2/10"], 3, None),
    ("§14.4 beyond the length", ["Content-Range: bytes 2-10/10"], 9, None),
    ("§14.4 unknown length", ["Content-Range: bytes 2-4/*"], 3, None),
    ("§14.4 unsatisfied", ["Content-Range: bytes */10"], 3, None),
    ("§14.4 another unit", ["Content-Range: items 2-4/10"], 3, None),
    ("§14.4 twice", ["Content-Range: bytes 2-4/10"] * 2, 3, None),
    ("§15.3.7 none", [], 3, None),
    ("no content", ["Content-Range: bytes 2-4/10"], 0, None),
]


@pytest.mark.parametrize(("clause", "lines", "size", "found"), SPANS, ids=[row[0] for row in SPANS])
def test_span(clause: str, lines: list[str], size: int, found: Span | None) -> None:
    assert span(fields(*lines), size) == found


RANGED = request("Range: bytes=2-4")
AGE, RANGE = "Cache-Control: max-age=60", "Content-Range: bytes 2-4/10"

STORABLE = [
    ("RFC 9111 §3.3", RANGED, response(206, RANGE, AGE), None),
    ("RFC 9111 §3.3 by heuristics", RANGED, response(206, RANGE), None),
    ("§15.3.7 not a part", RANGED, response(200, AGE), "not a part"),
    ("§14.2 no Range", request(), response(206, RANGE, AGE), "exactly one"),
    ("§14.2 two", request("Range: bytes=0-1", "Range: bytes=2-3"), response(206, RANGE, AGE), "exactly one"),
    ("§15.3.7.2 multipart", RANGED, response(206, "Content-Type: multipart/byteranges"), "Content-Range"),
    ("RFC 9111 §5.2.2.5", RANGED, response(206, RANGE, "Cache-Control: no-store"), "no-store"),
    ("RFC 9111 §5.2.2.7", RANGED, response(206, RANGE, "Cache-Control: private"), "private"),
    (
        "RFC 9111 §5.2.1.5",
        request("Range: bytes=2-4", "Cache-Control: no-store"),
        response(206, RANGE),
        "no-store",
    ),
    ("RFC 9111 §4.1", RANGED, response(206, RANGE, AGE, "Vary: *"), "Vary"),
    ("§14.2 HEAD", request("Range: bytes=2-4", method="HEAD"), response(206, RANGE), "for GET"),
]


@pytest.mark.parametrize(("clause", "asked", "answer", "why"), STORABLE, ids=[row[0] for row in STORABLE])
def test_what_may_be_kept(clause: str, asked, answer, why: str | None) -> None:  # type: ignore[no-untyped-def]
    found = storable_part(asked, answer, HTTP, T)
    assert found is None if why is None else why in (found or "")


def test_who_wants_the_whole_gets_no_parts() -> None:
    assert storable_part(RANGED, response(206, RANGE), NEVER, T) is not None


HELD = part(2, 6, asked="bytes=2-6")

SLICES: list[tuple[str, list[str], Slice | None]] = [
    ("RFC 9111 §3.3 the same", ["Range: bytes=2-6"], Slice(0, 5, b"bytes 2-6/10")),
    ("RFC 9111 §3.3 within", ["Range: bytes=3-4"], Slice(1, 2, b"bytes 3-4/10")),
    ("RFC 9111 §3.3 one byte", ["Range: bytes=6-6"], Slice(4, 1, b"bytes 6-6/10")),
    ("RFC 9111 §3.3 before", ["Range: bytes=1-3"], None),
    ("RFC 9111 §3.3 beyond", ["Range: bytes=6-7"], None),
    ("RFC 9111 §3.3 to the end", ["Range: bytes=3-"], None),
    ("RFC 9111 §3.3 a suffix", ["Range: bytes=-3"], None),
    ("RFC 9111 §3.3 the whole", [], None),
    ("§14.2 several", ["Range: bytes=2-3,5-6"], None),
    ("§14.2 beyond the whole", ["Range: bytes=99-"], None),
    ("§14.2 malformed", ["Range: bytes=x"], None),
    ("§13.1.5 If-Range holds", ["Range: bytes=3-4", 'If-Range: "a"'], Slice(1, 2, b"bytes 3-4/10")),
    ("§13.1.5 If-Range does not", ["Range: bytes=3-4", 'If-Range: "b"'], None),
]


@pytest.mark.parametrize(("clause", "asked", "found"), SLICES, ids=[row[0] for row in SLICES])
def test_slice(clause: str, asked: list[str], found: Slice | None) -> None:
    assert slice_of(request(*asked), HELD) == found


def test_a_suffix_within_the_part() -> None:
    assert slice_of(request("Range: bytes=-2"), part(5, 9)) == Slice(3, 2, b"bytes 8-9/10")


UNIONS: list[tuple[str, Version, Version, Span | None]] = [
    ("RFC 9111 §3.4 neighbours", part(0, 4), part(5, 7), Span(0, 7, 10)),
    ("RFC 9111 §3.4 overlap", part(3, 6), part(0, 4), Span(0, 6, 10)),
    ("RFC 9111 §3.4 a gap", part(0, 3), part(5, 7), None),
    ("RFC 9111 §3.4 another length", part(0, 4), part(5, 7, total=11), None),
    ("RFC 9111 §3.4 another ETag", part(0, 4), part(5, 7, 'ETag: "b"'), None),
    ("§8.8.1 a weak ETag", part(0, 4, 'ETag: W/"a"'), part(5, 7, 'ETag: W/"a"'), None),
    ("§15.3.7.3 no validator", part(0, 4, "A: 1"), part(5, 7, "A: 1"), None),
]


@pytest.mark.parametrize(("clause", "old", "new", "found"), UNIONS, ids=[row[0] for row in UNIONS])
def test_union(clause: str, old: Version, new: Version, found: Span | None) -> None:
    assert union(old, new) == found


@given(st.tuples(*[st.integers(0, 9)] * 4))
def test_the_pieces_of_a_union_are_its_bytes(numbers: tuple[int, int, int, int]) -> None:
    (a, b), (c, d) = sorted(numbers[:2]), sorted(numbers[2:])
    old, new = part(a, b), part(c, d)
    whole = union(old, new)
    if whole is None:
        assert c > b + 1 or a > d + 1
        return
    content = {id(old): WHOLE[a : b + 1], id(new): WHOLE[c : d + 1]}
    joined = b"".join(content[id(v)][at : at + length] for v, at, length in pieces(old, new))
    assert joined == WHOLE[whole.first : whole.last + 1]


def test_a_union_answers_no_question_in_particular() -> None:
    held = combined_head(part(5, 7), Span(0, 7, 10))
    whole = replace(held, body=BodyRef("x", 8))
    assert slice_of(request("Range: bytes=5-7"), whole) == Slice(5, 3, b"bytes 5-7/10")


def test_heads_of_unions() -> None:
    some = combined_head(part(5, 7), Span(0, 7, 10))
    assert some.status == 206 and (b"Content-Range", b"bytes 0-7/10") in some.fields
    whole = combined_head(part(5, 9), Span(0, 9, 10))
    assert (whole.status, whole.reason) == (200, b"OK")
    assert (b"Content-Length", b"10") in whole.fields
    assert b"content-range" not in {name.lower() for name, _ in whole.fields}


DECISIONS = [
    ("RFC 9111 §3.3 within", ["Range: bytes=3-4"], True),
    ("RFC 9111 §3.3 beyond", ["Range: bytes=3-9"], False),
    ("RFC 9111 §3.3 never as the whole", [], False),
    ("RFC 9111 §5.2.1.4", ["Range: bytes=3-4", "Cache-Control: no-cache"], False),
]


@pytest.mark.parametrize(("clause", "asked", "served"), DECISIONS, ids=[row[0] for row in DECISIONS])
def test_decide(clause: str, asked: list[str], served: bool) -> None:
    fresh = part(2, 6, TAGGED, AGE, asked="bytes=2-6")
    decision = decide(request(*asked), [], fresh, HTTP, T)
    assert decision == Serve(fresh, False, "stored part") if served else isinstance(decision, Forward)


def test_a_stale_part_is_nothing() -> None:
    stale = part(2, 6, TAGGED, "Cache-Control: max-age=0")
    assert isinstance(decide(request("Range: bytes=3-4"), [], stale, HTTP, T + 1), Forward)
