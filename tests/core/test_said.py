"""The directives that count for this cache: targeted fields (RFC 9213) and lists of fields."""

from __future__ import annotations

import pytest

from buffy_proxy.core.freshness import freshness_lifetime
from buffy_proxy.core.said import TARGETS, forbids, named_fields, said, targeted, without_named
from tests.core.make import T, date, fields, version

CDN = "CDN-Cache-Control: "

TARGETED: list[tuple[str, list[str], dict[str, str | None] | None]] = [
    ("RFC 9213 §2.1 absent", ["Cache-Control: max-age=1"], None),
    ("RFC 9213 §2.1 a Dictionary", [CDN + "max-age=60, no-cache"], {"max-age": "60", "no-cache": None}),
    ("RFC 9213 §2.1 parameters mean nothing", [CDN + "max-age=60;a=1"], {"max-age": "60"}),
    (
        "RFC 9213 §2.1 unknown members",
        [CDN + "max-age=60, x=(1 2)"],
        {"max-age": "60", "x": "[(1, {}), (2, {})]"},
    ),
    ("RFC 9213 §2.1 does not parse", [CDN + "max-age=60, &&&"], None),
    ("RFC 9213 §2.1 empty", [CDN], None),
    (
        "RFC 9651 §3.2 several lines",
        [CDN + "max-age=60", CDN + "no-store"],
        {"max-age": "60", "no-store": None},
    ),
    ("RFC 9651 §3.2 the last counts", [CDN + "max-age=60, max-age=7"], {"max-age": "7"}),
    ("RFC 9651 §3.3.6 false is absent", [CDN + "no-store=?0, max-age=3"], {"max-age": "3"}),
    ("RFC 9651 §3.1.2 keys are lower case", [CDN + "Max-Age=60"], None),
    ("RFC 9213 §2.1 a String is no number", [CDN + 'max-age="60"'], {"max-age": "'60'"}),
    ("RFC 9213 §2.1 a Decimal is no number", [CDN + "max-age=1.5"], {"max-age": "Decimal('1.5')"}),
    ("§5.2.2.4 a list of fields", [CDN + 'no-cache="a, b"'], {"no-cache": "a, b"}),
]


@pytest.mark.parametrize(("clause", "lines", "found"), TARGETED, ids=[row[0] for row in TARGETED])
def test_targeted(clause: str, lines: list[str], found: dict[str, str | None] | None) -> None:
    assert targeted(fields(*lines), TARGETS) == found


LIFETIMES: list[tuple[str, list[str], float]] = [
    ("RFC 9213 §2.2 before Cache-Control", [CDN + "max-age=60", "Cache-Control: max-age=5"], 60),
    ("RFC 9213 §2.2 also when shorter", [CDN + "max-age=5", "Cache-Control: max-age=60"], 5),
    ("RFC 9213 §2.2 s-maxage elsewhere says nothing", [CDN + "max-age=5", "Cache-Control: s-maxage=60"], 5),
    ("RFC 9213 §2.2 before Expires", [CDN + "max-age=60", f"Expires: {date(T + 5)}"], 60),
    ("RFC 9213 §2.2 Expires says nothing", [CDN + "public", f"Expires: {date(T + 5)}"], 0),
    ("RFC 9213 §2.1 invalid: Cache-Control", [CDN + "max-age=60, &&&", "Cache-Control: max-age=5"], 5),
    ("RFC 9213 §2.1 a String", [CDN + 'max-age="60"', "Cache-Control: max-age=5"], 0),
    ("RFC 9213 §2.1 negative", [CDN + "max-age=-1", "Cache-Control: max-age=5"], 0),
    ("RFC 9213 §2.2 no-cache", [CDN + "no-cache", "Cache-Control: max-age=5"], 0),
]


@pytest.mark.parametrize(("clause", "lines", "seconds"), LIFETIMES, ids=[row[0] for row in LIFETIMES])
def test_lifetime(clause: str, lines: list[str], seconds: float) -> None:
    assert freshness_lifetime(version(*lines), TARGETS)[0] == seconds


def test_without_a_target_list_only_cache_control_counts() -> None:
    assert freshness_lifetime(version(CDN + "max-age=60", "Cache-Control: max-age=5"))[0] == 5


def test_the_order_of_the_target_list_decides() -> None:
    lines = fields(CDN + "max-age=1", "Mine-Cache-Control: max-age=2")
    assert said(lines, ("Mine-Cache-Control", *TARGETS)) == {"max-age": "2"}
    assert said(lines, TARGETS) == {"max-age": "1"}


NAMED: list[tuple[str, list[str], set[bytes], bool]] = [
    ("§5.2.2.4 the whole response", ["Cache-Control: no-cache"], set(), True),
    ("§5.2.2.4 some fields", ['Cache-Control: no-cache="A, set-cookie"'], {b"a", b"set-cookie"}, False),
    ("§5.2.2.4 as a token", ["Cache-Control: no-cache=a"], {b"a"}, False),
    ("§5.2.2.4 an empty list", ['Cache-Control: no-cache=" "'], set(), True),
    ("§5.2.2.4 twice", ['Cache-Control: no-cache="a"', 'Cache-Control: no-cache="b"'], {b"a", b"b"}, False),
    ("§5.2.2.4 both forms", ['Cache-Control: no-cache="a", no-cache'], set(), True),
    ("§5.2.2.7 private", ['Cache-Control: private="x"'], {b"x"}, False),
    ("§5.2.2.4 neither", ["Cache-Control: max-age=1"], set(), False),
]


@pytest.mark.parametrize(("clause", "lines", "named", "forbidden"), NAMED, ids=[row[0] for row in NAMED])
def test_fields_that_are_named(clause: str, lines: list[str], named: set[bytes], forbidden: bool) -> None:
    directives = said(fields(*lines))
    assert named_fields(directives) == named
    assert (forbids(directives, "no-cache") or forbids(directives, "private")) is forbidden


def test_named_fields_are_not_stored() -> None:
    given = fields("A: 1", 'Cache-Control: private="a, B"', "b: 2", "C: 3")
    assert without_named(given) == fields('Cache-Control: private="a, B"', "C: 3")
