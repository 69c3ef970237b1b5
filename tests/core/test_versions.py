"""Names, variants, selection and retention."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.model import Retention, Version
from buffy_proxy.core.versions import (
    MAX_VARIANTS,
    matches,
    name_time,
    next_name,
    retained,
    same_variant,
    select,
)
from tests.core.make import T, fields, version

FOREVER = float("inf")


def test_names_are_compact_and_tell_the_time() -> None:
    name = next_name(T, None)
    assert len(name) == 11 and name == name.lower()
    assert name_time(name) == T


@given(st.floats(0, 2e10), st.floats(0, 2e10))
def test_names_sort_by_time(a: float, b: float) -> None:
    one, other = next_name(a, None), next_name(b, None)
    assert (one < other) == (round(a * 1e6) < round(b * 1e6))


@given(st.lists(st.floats(-10, 2e10), min_size=1))
def test_names_grow_whatever_the_clock_does(clock: list[float]) -> None:
    names: list[str] = []
    for now in clock:
        names.append(next_name(now, names[-1] if names else None))
    assert names == sorted(set(names))


@pytest.mark.parametrize("bad", ["", "latest", "0" * 10, "W" * 11, "0" * 12, "٠" * 11])
def test_what_is_no_name(bad: str) -> None:
    with pytest.raises(ValueError, match="no version name"):
        name_time(bad)


MATCHES = [  # RFC 9111 §4.1
    ("no Vary", [], [], ["A: 1"], True),
    ("the same", ["Vary: A"], ["A: 1"], ["a: 1"], True),
    ("another", ["Vary: A"], ["A: 1"], ["A: 2"], False),
    ("absent now", ["Vary: A"], ["A: 1"], [], False),
    ("absent then", ["Vary: A"], [], ["A: 1"], False),
    ("empty is not absent", ["Vary: A"], [], ["A:"], False),
    ("absent both times", ["Vary: A"], [], ["B: 1"], True),
    ("two lines are a list", ["Vary: A"], ["A: 1, 2"], ["A: 1", "A: 2"], True),
    ("white space around commas", ["Vary: A"], ["A: 1 ,2"], ["A: 1,\t2"], True),
    ("but not within strings", ["Vary: A"], ['A: "1 ,2"'], ['A: "1,2"'], False),
    ("order counts", ["Vary: A"], ["A: 1, 2"], ["A: 2, 1"], False),
    ("case counts", ["Vary: A"], ["A: x"], ["A: X"], False),
    ("all of them", ["Vary: A, B"], ["A: 1", "B: 1"], ["A: 1", "B: 2"], False),
    ("star", ["Vary: *"], [], [], False),
    ("star among others", ["Vary: A, *"], ["A: 1"], ["A: 1"], False),
    ("credentials: the key compared them", ["Vary: Cookie, Authorization"], [], ["Cookie: a"], True),
]


@pytest.mark.parametrize(("why", "lines", "then", "now", "answers"), MATCHES, ids=[r[0] for r in MATCHES])
def test_matches(why: str, lines: list[str], then: list[str], now: list[str], answers: bool) -> None:
    assert matches(version(*lines, asked=fields(*then)), fields(*now)) is answers


def test_star_matches_where_the_user_wants_it() -> None:
    assert matches(version("Vary: *"), (), star=True)


def test_same_variant() -> None:
    one = version("Vary: A", asked=fields("A: 1, 2", "B: 1"))
    assert same_variant(one, version("vary: a", asked=fields("A: 1,2", "B: 2")))
    assert not same_variant(one, version("Vary: A", asked=fields("A: 1")))
    assert not same_variant(one, version("Vary: A, B", asked=one.request_fields))
    assert not same_variant(one, version())
    assert same_variant(version("Vary: *"), version("Vary: *, A"))


def named(number: int, **more: object) -> Version:
    stored = version(**more)  # type: ignore[arg-type]
    return replace(stored, name=f"{number:011}", cached_at=T + number)


def test_select() -> None:
    pinned, tagged, other = named(1, pinned_until=FOREVER), named(2, tags=frozenset({"ok"})), named(3)
    versions = [other, tagged, pinned]
    assert select(versions, (), T) is pinned
    assert select(versions, (), T, tag="ok") is tagged
    assert select(versions, (), T, tag="no") is None
    assert select(versions, (), T, name=other.name) is other
    assert select(versions, (), T, name="no") is None
    assert select(versions, (), T, as_of=T + 2.5) is tagged
    assert select(versions, (), T, as_of=T) is None
    assert select([other, tagged], (), T) is other
    assert select([other, named(1, pinned_until=T)], (), T) is other
    assert select([], (), T) is None


def test_select_stays_within_the_variant() -> None:
    german = named(1)
    german = replace(german, fields=fields("Vary: A"), request_fields=fields("A: de"))
    assert select([german], fields("A: en"), T) is None
    assert select([german], fields("A: en"), T, name=german.name) is german
    assert select([german], None, T) is german


def kept(versions: list[Version], retention: Retention) -> list[int]:
    keep, drop = retained(versions, retention, T)
    assert sorted((*keep, *drop), key=lambda v: v.name, reverse=True) == versions
    return [int(v.name) for v in keep]


def test_the_newest_unpinned_are_kept() -> None:
    assert kept([named(n) for n in (5, 4, 3, 2, 1)], Retention()) == [5, 4]
    assert kept([named(2), named(1)], Retention(0, 0)) == [2]


def test_pins_count_for_themselves() -> None:
    versions = [named(n, pinned_until=FOREVER if n % 2 else T) for n in (6, 5, 4, 3, 2, 1)]
    assert kept(versions, Retention(2, 2)) == [6, 5, 4, 3]


def test_tagged_versions_stay_and_do_not_count() -> None:
    versions = [named(n, tags=frozenset({"t"}) if n < 3 else frozenset()) for n in (5, 4, 3, 2, 1)]
    assert kept(versions, Retention(2)) == [5, 4, 2, 1]


def of_variant(number: int, value: int, **more: object) -> Version:
    stored = named(number, **more)
    return replace(stored, fields=fields("Vary: A"), request_fields=fields(f"A: {value}"))


def test_retention_is_for_each_variant() -> None:
    assert kept([of_variant(n, n % 2) for n in (6, 5, 4, 3, 2, 1)], Retention(1)) == [6, 5]


def test_the_oldest_variants_go() -> None:
    count = MAX_VARIANTS + 3
    versions = [of_variant(n, n, pinned_until=FOREVER if n == 1 else None) for n in range(count, 0, -1)]
    assert kept(versions, Retention()) == [*range(count, count - MAX_VARIANTS, -1), 1]
