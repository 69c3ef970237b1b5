"""Validation, freshening, the client's conditions, and ranges."""

from __future__ import annotations

from typing import Any

import pytest

from buffy_proxy.core.conditional import (
    byte_range,
    conditional_fields,
    confirms,
    freshen,
    multipart,
    precondition,
    same_representation,
)
from buffy_proxy.core.fields import Unsatisfiable, first, get_all
from buffy_proxy.core.model import Fields
from tests.core.make import BODY, T, date, fields, request, response, version

THEN = date(T - 3600)
LATER = date(T - 1800)

VALIDATIONS: list[tuple[list[str], Fields]] = [  # RFC 9111 §4.3.1
    (['ETag: "a"'], fields('If-None-Match: "a"')),
    (['ETag: W/"a"'], fields('If-None-Match: W/"a"')),
    ([f"Last-Modified: {THEN}"], fields(f"If-Modified-Since: {THEN}")),
    (['ETag: "a"', f"Last-Modified: {THEN}"], fields('If-None-Match: "a"', f"If-Modified-Since: {THEN}")),
    (['ETag: "broken', "Last-Modified: then"], ()),
    ([], ()),
]


@pytest.mark.parametrize(("lines", "conditions"), VALIDATIONS)
def test_conditional_fields(lines: list[str], conditions: Fields) -> None:
    assert conditional_fields(version(*lines)) == conditions


CONFIRMATIONS = [  # RFC 9111 §4.3.4
    ('ETag: "a"', 'ETag: "a"', True),
    ('ETag: "a"', "X: 1", True),
    ('ETag: "a"', 'ETag: "b"', False),
    ('ETag: "a"', 'ETag: W/"a"', True),
    ('ETag: W/"a"', 'ETag: W/"b"', False),
    (f"Last-Modified: {THEN}", f"Last-Modified: {THEN}", True),
    (f"Last-Modified: {THEN}", f"Last-Modified: {LATER}", False),
    (f"Last-Modified: {THEN}", 'ETag: "a"', False),  # a strong validator that nothing stored has
    (f"Last-Modified: {THEN}", "X-A: 1", True),
]


@pytest.mark.parametrize(("stored", "new", "confirmed"), CONFIRMATIONS)
def test_a_304_must_be_about_what_is_stored(stored: str, new: str, confirmed: bool) -> None:
    assert confirms(version(stored), response(304, new)) is confirmed


def test_freshen_rfc9111_3_2() -> None:
    stored = version(
        'ETag: "a"',
        "Content-Length: 10",
        "Content-Encoding: gzip",
        "Content-Type: text/plain",
        "Age: 500",
        "X-Keep: 1",
        "X-New: old",
        "X-New: older",
        f"Date: {THEN}",
    )
    answer = response(
        304,
        "x-new: new",
        "Content-Length: 0",
        "Content-Encoding: br",
        "Content-Range: bytes 0-1/2",
        "Content-Type: text/html",
        "Cache-Control: max-age=60",
        f"Date: {date(T + 100)}",
        "Connection: close, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: 5",
    )
    fresh = freshen(stored, answer, T + 99, T + 101)
    expected = {
        b"etag": [b'"a"'],
        b"content-length": [b"10"],
        b"content-encoding": [b"gzip"],
        b"content-range": [],
        b"content-type": [b"text/html"],
        b"age": [],  # it belongs to the old message
        b"x-keep": [b"1"],
        b"x-new": [b"new"],
        b"cache-control": [b"max-age=60"],
        b"date": [date(T + 100).encode()],
        b"x-hop": [],
        b"connection": [],
        b"keep-alive": [],
    }
    assert {name: get_all(fresh.fields, name) for name in expected} == expected
    assert (fresh.requested_at, fresh.received_at, fresh.validated_at) == (T + 99, T + 101, T + 101)
    assert (fresh.cached_at, fresh.body, fresh.name) == (stored.cached_at, stored.body, stored.name)


def test_a_304_without_date_is_dated_when_it_came() -> None:
    fresh = freshen(version(f"Date: {THEN}"), response(304), T, T + 1)
    assert first(fresh.fields, b"date") == date(T + 1).encode()


STORED = ('ETag: "a"', f"Last-Modified: {THEN}")
WEAK = ('ETag: W/"a"',)
PRECONDITIONS: list[tuple[str, tuple[str, ...], list[str], dict[str, Any], str | None]] = [
    ("RFC 9110 §13.1.2 same", STORED, ['If-None-Match: "a"'], {}, "304"),
    ("§13.1.2 one of many", STORED, ['If-None-Match: "b", W/"a"'], {}, "304"),
    ("§13.1.2 weak comparison", WEAK, ['If-None-Match: "a"'], {}, "304"),
    ("§13.1.2 two lines", STORED, ['If-None-Match: "b"', 'If-None-Match: "a"'], {}, "304"),
    ("§13.1.2 any", (), ["If-None-Match: *"], {}, "304"),
    ("§13.1.2 other", STORED, ['If-None-Match: "b"'], {}, None),
    ("§13.1.2 none stored", (), ['If-None-Match: "a"'], {}, None),
    ("§13.1.2 HEAD", STORED, ['If-None-Match: "a"'], {"method": "HEAD"}, "304"),
    ("§13.2.1 other methods", STORED, ['If-None-Match: "a"'], {"method": "POST"}, None),
    ("§13.1.3 not since", STORED, [f"If-Modified-Since: {THEN}"], {}, "304"),
    ("§13.1.3 not since then", STORED, [f"If-Modified-Since: {LATER}"], {}, "304"),
    ("§13.1.3 since", STORED, [f"If-Modified-Since: {date(T - 9999)}"], {}, None),
    ("§13.1.3 invalid", STORED, ["If-Modified-Since: 0"], {}, None),
    ("§13.1.3 two dates", STORED, [f"If-Modified-Since: {LATER}"] * 2, {}, None),
    (
        "§13.1.3 not beside If-None-Match",
        STORED,
        ['If-None-Match: "b"', f"If-Modified-Since: {LATER}"],
        {},
        None,
    ),
    ("RFC 9111 §4.3.2 Date stands in", (), [f"If-Modified-Since: {date(T)}"], {}, "304"),
    ("RFC 9111 §4.3.2 before Date", (), [f"If-Modified-Since: {LATER}"], {}, None),
    ("§13.1.1 same", STORED, ['If-Match: "a"'], {}, None),
    ("§13.1.1 any", (), ["If-Match: *"], {}, None),
    ("§13.1.1 other", STORED, ['If-Match: "b"'], {}, "412"),
    ("§13.1.1 strong comparison", WEAK, ['If-Match: W/"a"'], {}, "412"),
    ("§13.1.1 before If-None-Match", STORED, ['If-Match: "b"', 'If-None-Match: "a"'], {}, "412"),
    ("§13.2.2 both hold", STORED, ['If-Match: "a"', 'If-None-Match: "a"'], {}, "304"),
    ("§13.1.4 changed since", STORED, [f"If-Unmodified-Since: {date(T - 9999)}"], {}, "412"),
    ("§13.1.4 not changed", STORED, [f"If-Unmodified-Since: {THEN}"], {}, None),
    ("§13.1.4 nothing known", (), [f"If-Unmodified-Since: {date(T - 9999)}"], {}, None),
    ("§13.1.4 not beside If-Match", STORED, ['If-Match: "a"', f"If-Unmodified-Since: {date(0)}"], {}, None),
    ("none", STORED, [], {}, None),
]


@pytest.mark.parametrize(
    ("clause", "stored", "asked", "more", "outcome"), PRECONDITIONS, ids=[row[0] for row in PRECONDITIONS]
)
def test_precondition(
    clause: str, stored: tuple[str, ...], asked: list[str], more: dict[str, Any], outcome: str | None
) -> None:
    assert precondition(request(*asked, **more), version(*stored)) == outcome


@pytest.mark.parametrize(("status", "outcome"), [(200, "304"), (203, "304"), (301, None), (404, None)])
def test_only_a_success_has_conditions_rfc9110_13_2_1(status: int, outcome: str | None) -> None:
    stored = version('ETag: "a"', status=status)
    assert precondition(request('If-None-Match: "a"'), stored) == outcome


LM_AND_DATE = (f"Last-Modified: {THEN}",)
PARTS: list[tuple[str, tuple[str, ...], list[str], dict[str, Any], object]] = [
    ("RFC 9110 §14.2 one", STORED, ["Range: bytes=2-4"], {}, [(2, 4)]),
    ("§14.2 several", STORED, ["Range: bytes=0-0,-1"], {}, [(0, 0), (9, 9)]),
    ("§15.5.17 outside", STORED, ["Range: bytes=10-"], {}, Unsatisfiable(10)),
    ("§14.2 unknown unit", STORED, ["Range: lines=1-2"], {}, None),
    ("§14.2 GET only", STORED, ["Range: bytes=2-4"], {"method": "HEAD"}, None),
    ("§14.2 two Range lines", STORED, ["Range: bytes=2-4", "Range: bytes=5-6"], {}, None),
    ("§13.1.5 ETag holds", STORED, ["Range: bytes=2-4", 'If-Range: "a"'], {}, [(2, 4)]),
    ("§13.1.5 ETag differs", STORED, ["Range: bytes=2-4", 'If-Range: "b"'], {}, None),
    ("§13.1.5 outside, differs", STORED, ["Range: bytes=10-", 'If-Range: "b"'], {}, None),
    ("§13.1.5 weak", WEAK, ["Range: bytes=2-4", 'If-Range: W/"a"'], {}, None),
    ("§13.1.5 date holds", LM_AND_DATE, ["Range: bytes=2-4", f"If-Range: {THEN}"], {}, [(2, 4)]),
    ("§13.1.5 exactly", LM_AND_DATE, ["Range: bytes=2-4", f"If-Range: {LATER}"], {}, None),
    (
        "§8.8.2.2 too young to be strong",
        (f"Last-Modified: {date(T)}",),
        ["Range: bytes=2-4", f"If-Range: {date(T)}"],
        {},
        None,
    ),
    ("§13.1.5 rubbish", STORED, ["Range: bytes=2-4", "If-Range: ,"], {}, None),
    ("none", STORED, [], {}, None),
]


@pytest.mark.parametrize(("clause", "stored", "asked", "more", "parts"), PARTS, ids=[row[0] for row in PARTS])
def test_byte_range(
    clause: str, stored: tuple[str, ...], asked: list[str], more: dict[str, Any], parts: object
) -> None:
    assert byte_range(request(*asked, **more), version(*stored)) == parts


def test_ranges_are_of_a_200_only() -> None:
    assert byte_range(request("Range: bytes=0-1"), version(status=203)) is None


def test_multipart_rfc9110_14_6() -> None:
    made = multipart(version("Content-Type: text/plain"), [(0, 1), (8, 9)])
    sent = b"".join(head + BODY[first : last + 1] for head, (first, last) in made.parts) + made.tail
    assert len(sent) == made.length
    kind, _, boundary = made.content_type.partition(b"; boundary=")
    assert kind == b"multipart/byteranges"
    preamble, one, two, end = sent.split(b"\r\n--" + boundary)
    assert (preamble, end) == (b"", b"--\r\n")
    assert one == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
    assert two == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
    assert len(boundary) <= 70  # RFC 2046 §5.1.1


SAME = [
    ("§4.3.5 nothing said", [], [], True),
    ("§4.3.5 the same ETag", ['ETag: "a"'], ['ETag: "a"'], True),
    ("§4.3.5 another ETag", ['ETag: "a"'], ['ETag: "b"'], False),
    ("§4.3.5 another date", ["Last-Modified: x"], ["Last-Modified: y"], False),
    ("§4.3.5 only one says it", ['ETag: "a"'], [], True),
    ("§4.3.5 the same length", [], [f"Content-Length: {len(BODY)}"], True),
    ("§4.3.5 another length", [], ["Content-Length: 0"], False),
]


@pytest.mark.parametrize(("clause", "stored", "head", "same"), SAME, ids=[row[0] for row in SAME])
def test_same_representation(clause: str, stored: list[str], head: list[str], same: bool) -> None:
    assert same_representation(version(*stored), response(200, *head)) is same
