"""`buffy pin|unpin|tag|untag|purge|refresh` against a real store."""

from __future__ import annotations

import math
import time

import pytest

from tests.cli.shelf import Shelf

URL = "https://data.example/a"


def test_pin_takes_the_newest_version_for_ever(shelf: Shelf) -> None:
    shelf.add(URL, b"old")
    new = shelf.add(URL, b"new")
    ran = shelf.buffy("pin", URL)
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err == f"pinned {new.name} of {URL} for ever\n"
    assert [v.pinned_until for v in shelf.versions(new)] == [math.inf, None]


def test_pin_takes_a_version_and_a_time(shelf: Shelf) -> None:
    old = shelf.add(URL, b"old")
    shelf.add(URL, b"new")
    assert shelf.buffy("pin", URL, "--version", old.name, "--for", "2h").code == 0
    newest, oldest = shelf.versions(old)
    assert newest.pinned_until is None
    assert oldest.pinned_until == pytest.approx(time.time() + 7200, abs=30)


def test_unpin_takes_all_pins_or_one(shelf: Shelf) -> None:
    old, new = shelf.add(URL, b"old"), shelf.add(URL, b"new")
    for version in (old, new):
        shelf.buffy("pin", URL, "--version", version.name)
    assert shelf.buffy("unpin", URL, "--version", old.name).code == 0
    assert [v.pinned_until for v in shelf.versions(new)] == [math.inf, None]
    assert new.name in shelf.buffy("unpin", URL).err
    assert [v.pinned_until for v in shelf.versions(new)] == [None, None]
    assert "unpinned nothing" in shelf.buffy("unpin", URL).err


def test_a_tag_names_one_version_and_moves(shelf: Shelf) -> None:
    old, new = shelf.add(URL, b"old"), shelf.add(URL, b"new")
    assert shelf.buffy("tag", URL, "release-1", "--version", old.name).code == 0
    assert [v.tags for v in shelf.versions(new)] == [frozenset(), {"release-1"}]
    assert shelf.buffy("tag", URL, "release-1").code == 0
    assert [v.tags for v in shelf.versions(new)] == [{"release-1"}, frozenset()]
    assert new.name in shelf.buffy("untag", URL, "release-1").err
    assert [v.tags for v in shelf.versions(new)] == [frozenset(), frozenset()]
    ran = shelf.buffy("untag", URL, "release-1")
    assert (ran.code, ran.err) == (
        1,
        f"buffy: {URL} has no version tagged release-1; `buffy show` lists what there is\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("tag", URL, "x"),
        ("tag", URL, "no spaces"),
        ("untag", URL, "ü" * 5),
        ("pin", URL, "--for", "soon"),
        ("pin", URL, "--for", "0"),
        ("pin",),
        ("pin", URL, "--frobnicate"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_changes_nothing(shelf: Shelf, arguments: tuple[str, ...]) -> None:
    version = shelf.add(URL)
    ran = shelf.buffy(*arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err
    assert shelf.versions(version) == [version]


@pytest.mark.parametrize("command", [("pin",), ("unpin",), ("tag", "some-tag"), ("untag", "some-tag")])
def test_unknown_urls_and_versions_are_exit_code_1(shelf: Shelf, command: tuple[str, ...]) -> None:
    verb, *rest = command
    assert shelf.buffy(verb, URL, *rest).code == 1
    shelf.add(URL)
    ran = shelf.buffy(verb, URL, *rest, "--version", "00000000000")
    assert ran.code == 1
    assert "has no version 00000000000" in ran.err


def test_a_url_of_several_resources_wants_an_id(shelf: Shelf) -> None:
    one = shelf.add(URL, group="lab")
    two = shelf.add(URL, fields=((b"Cookie", b"a=b"),))
    ran = shelf.buffy("pin", URL)
    assert ran.code == 2
    assert one.resource_id in ran.err
    assert two.resource_id in ran.err
    assert shelf.buffy("pin", two.resource_id).code == 0
    assert shelf.buffy("pin", URL, "--group", "lab").code == 0
    assert shelf.versions(two)[0].pinned_until == shelf.versions(one)[0].pinned_until == math.inf


def test_the_plain_resource_is_meant_where_there_is_one(shelf: Shelf) -> None:
    shelf.add(URL, group="lab")
    plain = shelf.add(URL)
    assert shelf.buffy("pin", URL).code == 0
    assert shelf.versions(plain)[0].pinned_until == math.inf


def test_purge_removes_what_matches_and_nothing_else(shelf: Shelf) -> None:
    gone = shelf.add(URL, b"1")
    shelf.add(URL, b"2")
    shelf.buffy("pin", URL)
    other = shelf.add("https://other.example/", b"3")
    sandbox = shelf.add(URL, group="lab")
    ran = shelf.buffy("purge", "data.example/**", "--yes", "--group", "DEFAULT_GROUP")
    assert (ran.code, ran.err) == (0, "removed 1 resource with 2 versions\n")
    assert shelf.versions(gone) == []
    assert [len(shelf.versions(v)) for v in (other, sandbox)] == [1, 1]
    assert shelf.buffy("purge", "data.example/**", "--yes", "--group", "DEFAULT_GROUP").code == 1


def test_purge_wants_yes_where_it_cannot_ask(shelf: Shelf) -> None:
    version = shelf.add(URL)
    ran = shelf.buffy("purge", URL)
    assert ran.code == 2
    assert "would remove 1 resource (1 version, 4 B, 0 pinned or tagged); say --yes" in ran.err
    assert len(shelf.versions(version)) == 1


def test_refresh_makes_the_newest_version_due(shelf: Shelf) -> None:
    shelf.add(URL, b"old")
    new = shelf.add(URL, b"new")
    shelf.add("https://other.example/")
    shelf.add(URL, fields=((b"Cookie", b"a=b"),))
    ran = shelf.buffy("refresh", "data.example")
    assert ran.code == 0
    assert "1 resource will be renewed once `buffy serve` runs" in ran.err
    assert "1 resource left out" in ran.err
    assert [(due.resource_id, due.name) for due in shelf.store.due(time.time(), 10)] == [
        (new.resource_id, new.name)
    ]
    assert shelf.buffy("refresh", "nothing.example").code == 1
