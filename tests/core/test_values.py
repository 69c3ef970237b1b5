"""Dates, seconds, entity tags and byte ranges: one row for each form, valid or not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.values import (
    ANY,
    MAX_DELTA,
    MAX_RANGES,
    ETag,
    Unsatisfiable,
    content_range,
    delta_seconds,
    format_http_date,
    http_date,
    parse_etag,
    parse_etags,
    parse_ranges,
)

DELTAS = [
    ("0", 0),
    ("60", 60),
    ("000000000000000000000000000000000060", 60),
    ("2147483648", MAX_DELTA),
    ("99999999999999999999999999", MAX_DELTA),
    ("", None),
    (None, None),
    ("-1", None),
    ("+1", None),
    ("1.5", None),
    ("1e3", None),
    (" 1", None),
    ("١", None),  # ARABIC-INDIC DIGIT ONE
    ("1_0", None),
]


@pytest.mark.parametrize(("text", "seconds"), DELTAS)
def test_delta_seconds_rfc9111_1_2_2(text: str | None, seconds: int | None) -> None:
    assert delta_seconds(text) == seconds


NOV_1994 = 784111777.0
DATES = [
    # RFC 9110 §5.6.7: the three forms
    (b"Sun, 06 Nov 1994 08:49:37 GMT", NOV_1994),
    (b"Sunday, 06-Nov-94 08:49:37 GMT", NOV_1994),
    (b"Sun Nov  6 08:49:37 1994", NOV_1994),
    (b"Wed Nov 16 08:49:37 1994", NOV_1994 + 10 * 86400),
    (b" Sun, 06 Nov 1994 08:49:37 GMT\t", NOV_1994),
    (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800.0),  # a leap second
    (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    (b"Wed, 31 Dec 1969 23:59:59 GMT", -1.0),
    # RFC 9111 §4.2: case does not matter, other zones do
    (b"sun, 06 nOV 1994 08:49:37 gmt", NOV_1994),
    (b"Sun, 06 Nov 1994 08:49:37 UTC", None),
    (b"Sun, 06 Nov 1994 08:49:37 +0000", None),
    (b"Sun, 06 Nov 1994 08:49:37 EST", None),
    (b"Sun, 06 Nov 1994 08:49:37", None),
    # near misses
    (b"Sun, 6 Nov 1994 08:49:37 GMT", None),
    (b"Sun 06 Nov 1994 08:49:37 GMT", None),
    (b"Sun,  06 Nov 1994 08:49:37 GMT", None),
    (b"Sun, 06-Nov-1994 08:49:37 GMT", None),
    (b"Sun, 06 Nov 94 08:49:37 GMT", None),
    (b"Sun, 06 Nov 1994 8:49:37 GMT", None),
    (b"Sun, 06 Nov 1994 24:00:00 GMT", None),
    (b"Sun, 06 Nov 1994 08:60:37 GMT", None),
    (b"Sun, 06 Nov 1994 08.49.37 GMT", None),
    (b"Sun, 00 Nov 1994 08:49:37 GMT", None),
    (b"Sun, 31 Feb 1994 08:49:37 GMT", None),
    (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
    (b"0", None),
    (b"-1", None),
    (b"", None),
    (b"\xff\x00", None),
]


@pytest.mark.parametrize(("text", "posix"), DATES)
def test_http_date(text: bytes, posix: float | None) -> None:
    assert http_date(text) == posix


TWO_DIGIT_YEARS = [  # RFC 9110 §5.6.7: more than 50 years ahead is the past
    ("69", 2023, 2069),
    ("73", 2023, 2073),
    ("74", 2023, 1974),
    ("94", 2023, 1994),
    ("12", 2061, 2012),
    ("69", None, 2069),
    ("70", None, 1970),
]


@pytest.mark.parametrize(("digits", "this_year", "year"), TWO_DIGIT_YEARS)
def test_two_digit_years(digits: str, this_year: int | None, year: int) -> None:
    now = None if this_year is None else http_date(b"Thu, 15 Jun %d 00:00:00 GMT" % this_year)
    posix = http_date(b"Sunday, 06-Nov-%s 08:49:37 GMT" % digits.encode(), now)
    assert posix is not None and time.gmtime(posix).tm_year == year


@given(st.integers(0, 253402300799))
def test_dates_survive_writing_and_reading(posix: int) -> None:
    assert http_date(format_http_date(posix)) == posix


@pytest.mark.parametrize("beyond", [-1.0, -1e300, 1e300, float("inf"), float("-inf")])
def test_dates_beyond_four_digits_are_clamped(beyond: float) -> None:
    assert http_date(format_http_date(beyond)) == (0 if beyond < 0 else 253402300799)


ETAGS = [  # RFC 9110 §8.8.3
    (b'"abc"', ETag(b'"abc"')),
    (b'W/"abc"', ETag(b'"abc"', weak=True)),
    (b' "abc" ', ETag(b'"abc"')),
    (b'""', ETag(b'""')),
    (b'"a,b"', ETag(b'"a,b"')),
    (b'"a\xffb"', ETag(b'"a\xffb"')),
    (b"abc", ETag(b"abc")),  # unquoted, as some origins write it
    (b'w/"abc"', None),  # the W is case-sensitive
    (b'"abc', None),
    (b'"a"b"', None),
    (b"", None),
    (None, None),
]


@pytest.mark.parametrize(("text", "tag"), ETAGS)
def test_parse_etag(text: bytes | None, tag: ETag | None) -> None:
    assert parse_etag(text) == tag


LISTS = [  # RFC 9110 §13.1.2
    (b"*", ANY),
    (b" * ", ANY),
    (b'"a", W/"b" ,"c,d"', (ETag(b'"a"'), ETag(b'"b"', weak=True), ETag(b'"c,d"'))),
    (b',, "a",,', (ETag(b'"a"'),)),
    (b'"a" "b"', (ETag(b'"a"'), ETag(b'"b"'))),
    (b"abc, def", (ETag(b"abc"), ETag(b"def"))),
    (b'"open, "a"', (ETag(b'"a"'),)),
    (b"", ()),
]


@pytest.mark.parametrize(("text", "tags"), LISTS)
def test_parse_etags(text: bytes, tags: object) -> None:
    assert parse_etags(text) == tags


COMPARISONS = [  # the table of RFC 9110 §8.8.3.2
    (b'W/"1"', b'W/"1"', False, True),
    (b'W/"1"', b'W/"2"', False, False),
    (b'W/"1"', b'"1"', False, True),
    (b'"1"', b'"1"', True, True),
]


@pytest.mark.parametrize(("one", "other", "strongly", "weakly"), COMPARISONS)
def test_comparison_rfc9110_8_8_3_2(one: bytes, other: bytes, strongly: bool, weakly: bool) -> None:
    a, b = parse_etag(one), parse_etag(other)
    assert a is not None and b is not None
    assert (a.same_strongly(b), a.same_weakly(b)) == (strongly, weakly)


RANGES = [  # RFC 9110 §14.1.2, for ten bytes
    (b"bytes=0-4", [(0, 4)]),
    (b"bytes=5-", [(5, 9)]),
    (b"bytes=-3", [(7, 9)]),
    (b"bytes=-30", [(0, 9)]),
    (b"bytes=0-99", [(0, 9)]),
    (b"bytes=9-9", [(9, 9)]),
    (b"BYTES=0-0", [(0, 0)]),
    (b"bytes=0-1, 4-5 ,-1", [(0, 1), (4, 5), (9, 9)]),
    (b"bytes=,0-1,", [(0, 1)]),
    (b"bytes=0-1,20-30", [(0, 1)]),  # the part outside is left out
    (b"bytes=10-", Unsatisfiable(10)),
    (b"bytes=10-20,30-", Unsatisfiable(10)),
    (b"bytes=-0", Unsatisfiable(10)),
    (b"bytes=0-9,0-9", None),  # more than the whole
    (b"bytes=" + b"0-0," * (MAX_RANGES + 1), None),
    (b"bytes=5-4", None),
    (b"bytes=-", None),
    (b"bytes=", None),
    (b"bytes", None),
    (b"bytes=a-b", None),
    (b"bytes=0-1;2", None),
    (b"bytes=0--1", None),
    (b"bytes=+0-1", None),
    (b"bytes = 0-1", None),
    (b"items=0-1", None),
    (b"bytes=" + b"9" * 400 + b"-", None),
    (b"", None),
]


@pytest.mark.parametrize(("text", "ranges"), RANGES)
def test_parse_ranges(text: bytes, ranges: object) -> None:
    assert parse_ranges(text, 10) == ranges


def test_nothing_of_an_empty_content_can_be_named() -> None:
    assert parse_ranges(b"bytes=0-", 0) == Unsatisfiable(0)
    assert parse_ranges(b"bytes=-5", 0) == Unsatisfiable(0)


def test_content_range_rfc9110_14_4() -> None:
    assert content_range(0, 4, 10) == b"bytes 0-4/10"
    assert Unsatisfiable(10).content_range() == b"bytes */10"


@given(st.binary() | st.text('bytes=0123456789-, W/"*GMT:').map(str.encode))
def test_parsers_never_raise(data: bytes) -> None:
    http_date(data)
    http_date(data, 0.0)
    parse_etag(data)
    parse_etags(data)
    parse_ranges(data, 10)
    delta_seconds(data.decode("latin-1"))


@pytest.mark.parametrize("rubbish", [b",", b'"', b" ", b'W/"', b"a", b'",', b"bytes=", b"0-"])
def test_hostile_lengths_take_no_time(rubbish: bytes) -> None:
    """64 KiB of it are parsed in linear time; quadratic would be minutes."""
    data = rubbish * (65536 // len(rubbish))
    start = time.process_time()
    parse_etags(data)
    parse_ranges(b"bytes=" + data, 10)
    http_date(data)
    assert time.process_time() - start < 2
