"""Which directives count for this cache: RFC 9213 §2.2 before RFC 9111 §5.2, and lists of fields in them."""

from __future__ import annotations

import pytest

from buffy_proxy.core.freshness import freshness_lifetime
from buffy_proxy.core.model import Response
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.said import forbids, named_fields, said, targeted, without_named
from buffy_proxy.core.storing import DoNotStore, Store, storability
from buffy_proxy.core.strategies import Http
from tests.core.make import HTTP, KEY, T, date, fields, request, version

CDN = ("CDN-Cache-Control",)
DICTIONARIES: list[tuple[str, list[str], dict[str, str | None] | None]] = [
    ("RFC 9213 §2.1 a Dictionary", ["max-age=60, no-store"], {"max-age": "60", "no-store": None}),
    ("RFC 9213 §2.1 parameters are ignored", ["max-age=60;a=b"], {"max-age": "60"}),
    (
        "RFC 9651 §3.2 several lines are one",
        ["max-age=60", "immutable"],
        {"max-age": "60", "immutable": None},
    ),
    ("RFC 9651 §3.2 of a repeated key the last counts", ["max-age=1, max-age=9"], {"max-age": "9"}),
    ("RFC 9213 §2.1 unknown members are kept", ["x-vendor=tok, max-age=5"], None),
    ("RFC 9213 §2.2 empty: as if absent", [""], None),
    ("RFC 9213 §2.2 malformed: as if absent", ["max-age=60 no-store"], None),
    ("RFC 9651 §3.2 keys are lower-case", ["Max-Age=60"], None),
    ("RFC 9651 §4.2.2 no trailing comma", ["max-age=60,"], None),
    ("RFC 9651 §4.2 one bad line spoils it all", ["max-age=60", "=1"], None),
    ("RFC 9651 §3.3.1 fifteen digits", [f"max-age={10**15}"], None),
    ("RFC 9110 §5.5 bytes beyond ASCII", ["max-age=60, é"], None),
]


@pytest.mark.parametrize(("clause", "values", "members"), DICTIONARIES, ids=[r[0] for r in DICTIONARIES])
def test_a_targeted_field(clause: str, values: list[str], members: dict[str, str | None] | None) -> None:
    found = targeted(fields(*(f"CDN-Cache-Control: {value}" for value in values)), CDN)
    if clause.endswith("unknown members are kept"):
        assert found is not None and found["max-age"] == "5" and "x-vendor" in found
    else:
        assert found == members


FIRST = [
    ("§2.2 the targeted one", ["Cache-Control: no-store", "CDN-Cache-Control: max-age=60"], 60),
    ("§2.2 the order of lines is nothing", ["CDN-Cache-Control: max-age=60", "Cache-Control: no-store"], 60),
    ("§2.2 Expires is not for us either", [f"Expires: {date(T + 999)}", "CDN-Cache-Control: immutable"], 0),
    ("§2.2 an invalid one is ignored", ["Cache-Control: max-age=9", "CDN-Cache-Control: max-age=60,"], 9),
    ("§2.2 an empty one is ignored", ["Cache-Control: max-age=9", "CDN-Cache-Control:"], 9),
    ("§2.1 a Decimal is no delta-seconds", ["Cache-Control: max-age=9", "CDN-Cache-Control: max-age=1.5"], 0),
    ("§2.1 nor is a String", ["Cache-Control: max-age=9", 'CDN-Cache-Control: max-age="60"'], 0),
    ("§2.1 nor is a bare key", ["Cache-Control: max-age=9", "CDN-Cache-Control: max-age"], 0),
    ("not of our list", ["Cache-Control: max-age=9", "Other-Cache-Control: max-age=60"], 9),
]


@pytest.mark.parametrize(("clause", "lines", "seconds"), FIRST, ids=[row[0] for row in FIRST])
def test_it_goes_before_cache_control_rfc9213(clause: str, lines: list[str], seconds: float) -> None:
    assert freshness_lifetime(version(*lines), CDN)[0] == seconds


def test_the_target_list_is_in_order_of_preference_rfc9213_2_2() -> None:
    lines = fields("CDN-Cache-Control: max-age=1", "Buffy-Cache-Control: max-age=2")
    assert said(lines, ("Buffy-Cache-Control", *CDN)) == {"max-age": "2"}
    assert said(lines, (*CDN, "Buffy-Cache-Control")) == {"max-age": "1"}
    assert said(lines, ()) == {}


STORED = [
    ("§2.2 no-store is for others", ["Cache-Control: no-store", "CDN-Cache-Control: max-age=60"], True),
    ("§2.2 no-store is for us", ["Cache-Control: max-age=60", "CDN-Cache-Control: no-store"], False),
    ("§2.2 private is for others", ["Cache-Control: private", "CDN-Cache-Control: max-age=60"], True),
    (
        "§2.2 a malformed one permits nothing",
        ["Cache-Control: no-store", "CDN-Cache-Control: max-age=,"],
        False,
    ),
    ("a Boolean false says nothing", ["Cache-Control: no-store", "CDN-Cache-Control: no-store=?0"], False),
]


@pytest.mark.parametrize(("clause", "lines", "stored"), STORED, ids=[row[0] for row in STORED])
def test_what_is_stored_under_rfc9213(clause: str, lines: list[str], stored: bool) -> None:
    verdict = storability(request(), Response(200, b"", fields(*lines)), HTTP, KEY, T)
    assert isinstance(verdict, Store if stored else DoNotStore)


def test_a_cache_without_targets_reads_cache_control() -> None:
    lines = fields("Cache-Control: no-store", "CDN-Cache-Control: max-age=60")
    verdict = storability(request(), Response(200, b"", lines), Policy(Http(targets=())), KEY, T)
    assert isinstance(verdict, DoNotStore)


WHOLE, X, XY = True, {b"x"}, {b"x", b"y"}
LISTS: list[tuple[str, str, bool | set[bytes]]] = [
    ("§5.2.2.7 unqualified", "Cache-Control: private", WHOLE),
    ("§5.2.2.7 qualified", 'Cache-Control: private="X"', X),
    ("§5.2.2.7 a list", 'Cache-Control: private="x, Y"', XY),
    ("§5.2.2.7 with empty members", 'Cache-Control: private=" , x,,y"', XY),
    ("§5.2.2.7 in token form", "Cache-Control: private=x", X),
    ("two lists are one", 'Cache-Control: private="x", private="y"', XY),
    ("the one without a list counts", 'Cache-Control: private="x", private', WHOLE),
    ("and in the other order", 'Cache-Control: private, private="x"', WHOLE),
    ("empty list", 'Cache-Control: private=""', WHOLE),
    ("no argument after =", "Cache-Control: private=", WHOLE),
    ("a quote nobody closes", 'Cache-Control: private="x', WHOLE),
    ("a lone quote", 'Cache-Control: private="', WHOLE),
    ("white space round =", 'Cache-Control: private = "x"', WHOLE),
    ("no names of fields", 'Cache-Control: private="a b"', WHOLE),
    ("one of two is no name", 'Cache-Control: private="x, (y)"', WHOLE),
    ("beyond ASCII", 'Cache-Control: private="é"', WHOLE),
    ("a response without its Vary is another", 'Cache-Control: private="x, Vary"', WHOLE),
    ("nor without its directives", 'Cache-Control: private="cache-control"', WHOLE),
    ("targeted: a String", 'CDN-Cache-Control: private="x, y"', XY),
    ("targeted: a Token", "CDN-Cache-Control: private=x", X),
    ("targeted: an Inner List is none", 'CDN-Cache-Control: private=("x" "y")', WHOLE),
    ("targeted: an Integer is none", "CDN-Cache-Control: private=5", WHOLE),
    ("targeted: a Boolean", "CDN-Cache-Control: private=?1", WHOLE),
]


@pytest.mark.parametrize("name", ["private", "no-cache"])
@pytest.mark.parametrize(("clause", "line", "names"), LISTS, ids=[row[0] for row in LISTS])
def test_lists_of_fields_rfc9111(clause: str, line: str, names: bool | set[bytes], name: str) -> None:
    directives = said(fields(line.replace("private", name)), CDN)
    assert forbids(directives, name) == (names is WHOLE)
    assert named_fields(directives) == (set() if names is WHOLE else names)


def test_named_fields_are_not_stored() -> None:
    lines = fields('Cache-Control: private="x", no-cache="Y", max-age=9', "X: 1", "y: 2", "x: 3", "Z: 4")
    assert without_named(lines) == (lines[0], lines[4])


def test_nothing_named_is_the_same_object() -> None:
    lines = fields("Cache-Control: max-age=9", "X: 1")
    assert without_named(lines) is lines
