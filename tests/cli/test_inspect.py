"""`buffy ls`, `buffy show`, `buffy why`."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from buffy_proxy.cli.inspect import next_step
from buffy_proxy.core.model import BodyRef, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Age, Http, Never
from tests.cli.shelf import Shelf

DATA = "https://data.example/"


def test_ls_lists_urls_with_their_newest_version(shelf: Shelf) -> None:
    shelf.add(DATA + "a", b"one")
    shelf.add(DATA + "a", b"x" * 2048, age_s=90)
    shelf.add("http://other.example/", b"two", group="lab")
    ran = shelf.buffy("ls")
    assert ran.code == 0
    first, second = ran.lines
    assert first.split() == [
        "2",
        "2.0",
        "KiB",
        "1m",
        "30s",
        "http",
        "fresh",
        "for",
        "1h",
        "DEFAULT_GROUP",
        DATA + "a",
    ]
    assert second.split()[-2:] == ["lab", "http://other.example/"]
    assert "2 resources; 2.0 KiB of" in ran.err


def test_ls_takes_a_pattern_a_group_and_json(shelf: Shelf) -> None:
    one = shelf.add(DATA + "a/b")
    shelf.add(DATA + "c")
    shelf.add("http://other.example/", group="lab")
    assert [r["url"] for r in shelf.buffy("ls", "data.example", "--json").json] == [DATA + "a/b", DATA + "c"]
    assert [r["url"] for r in shelf.buffy("ls", DATA + "*", "--json").json] == [DATA + "c"]
    assert [r["url"] for r in shelf.buffy("ls", "--json", "--group", "lab").json] == ["http://other.example/"]
    assert [r["url"] for r in shelf.buffy("ls", one.resource_id, "--json").json] == [DATA + "a/b"]
    assert shelf.buffy("ls", "nothing.example", "--json").json == []
    entry = shelf.buffy("ls", DATA + "c", "--json").json[0]
    assert entry["strategy"] == {"strategy_name": "http"}
    assert (entry["versions"], entry["size"], entry["credentials"], entry["group"]) == (
        1,
        4,
        False,
        "DEFAULT_GROUP",
    )


def test_ls_names_the_strategy_of_the_rule_that_matches(shelf: Shelf) -> None:
    shelf.add(DATA + "a")
    (shelf.data_dir / "buffy.toml").write_text("[[rule]]\nmatch = 'data.example'\nstrategy = 'never'")
    assert "never" in shelf.buffy("ls").lines[0].split()


def test_a_resource_with_a_configuration_of_its_own_names_that(shelf: Shelf) -> None:
    version = shelf.add(DATA + "a")
    resource = shelf.store.resource(version.resource_id)
    assert resource is not None
    policy = {"recaching_strategy": {"strategy_name": "age", "seconds": 60}}
    shelf.store.set_policy(resource.key, policy, None, now=time.time()).result()
    assert "age" in shelf.buffy("ls").lines[0].split()
    shown = shelf.buffy("show", DATA + "a", "--json").json[0]
    assert (shown["strategy"]["seconds"], shown["source"]) == (60, "its order")


def test_show_lists_versions_newest_first(shelf: Shelf) -> None:
    old = shelf.add(DATA + "a", b"old", age_s=7200, fresh_s=-10)
    new = shelf.add(DATA + "a", b"newer")
    shelf.store.set_tag(old.resource_id, old.name, "release-1", True, now=time.time()).result()
    head, policy, first, second = shelf.buffy("show", DATA + "a").lines
    assert head == f"{old.resource_id}  GET {DATA}a (group DEFAULT_GROUP)"
    assert policy.startswith("strategy http by default; last asked for ")
    assert first.split()[0] == new.name
    assert "fresh for 1h" in first or "fresh for 59m" in first
    assert second.split()[0] == old.name
    assert "re-fetch when asked  [release-1]" in second

    shown = shelf.buffy("show", old.resource_id, "--json").json
    assert [(v["name"], v["size"], v["tags"]) for v in shown[0]["versions"]] == [
        (new.name, 5, []),
        (old.name, 3, ["release-1"]),
    ]


def test_show_lists_all_resources_of_a_url_the_plain_one_first(shelf: Shelf) -> None:
    url = DATA + "a"
    shelf.add(url, group="lab")
    shelf.add(url, b"secret", fields=((b"Authorization", b"Bearer hush-hush"),))
    plain = shelf.add(url, b"plain")
    ran = shelf.buffy("show", url, "--json")
    assert sorted((r["group"], r["credentials"]) for r in ran.json) == [
        ("DEFAULT_GROUP", False),
        ("DEFAULT_GROUP", True),
        ("lab", False),
    ]
    assert ran.json[0]["id"] == plain.resource_id
    assert b"hush-hush" not in ran.out
    assert [r["group"] for r in shelf.buffy("show", url, "--group", "lab", "--json").json] == ["lab"]
    assert "only with the credentials" in shelf.buffy("show", url).out.decode()


def test_show_of_what_is_not_there(shelf: Shelf) -> None:
    ran = shelf.buffy("show", DATA + "a")
    assert (ran.code, ran.out) == (1, b"")
    assert ran.err == f"buffy: nothing is stored for {DATA}a\n"
    assert "in group lab" in shelf.buffy("show", DATA + "a", "--group", "lab").err
    assert shelf.buffy("show", "a" * 24).code == 1


def test_a_url_is_normalised_and_https_unless_it_says_otherwise(shelf: Shelf) -> None:
    shelf.add(DATA + "a")
    for spelling in ("data.example/a", "HTTPS://Data.Example:443/a#part"):
        assert shelf.buffy("show", spelling).code == 0


@pytest.mark.parametrize(
    "url", ["ftp://x.example/", "https://", "https://x.example/a b", "https://x.example:0/"]
)
def test_a_bad_url_is_a_usage_error(shelf: Shelf, url: str) -> None:
    for command in ("show", "why", "get"):
        ran = shelf.buffy(command, url)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, b"", 1)
        assert ran.err.startswith("buffy: ")


def test_a_bad_pattern_is_a_usage_error(shelf: Shelf) -> None:
    for command in ("ls", "purge", "refresh"):
        ran = shelf.buffy(command, "a***b")
        assert ran.code == 2
        assert "'***'" in ran.err


def test_why_explains(shelf: Shelf) -> None:
    version = shelf.add(DATA + "a")
    assert (
        f"answered from the store with version {version.name}" in shelf.buffy("why", DATA + "a").out.decode()
    )
    assert "uri-miss" in shelf.buffy("why", DATA + "b").out.decode()
    assert "uri-miss" in shelf.buffy("why", DATA + "a", "--group", "lab").out.decode()


NOW = 1_000_000.0
VERSION = Version("r", "n", 200, b"", (), BodyRef("d", 1), (), NOW, NOW, NOW, NOW, fresh_until=NOW - 1)


@pytest.mark.parametrize(
    ("version", "strategy", "expected"),
    [
        (VERSION, Http(), "re-fetch when asked"),
        (replace(VERSION, fields=((b"ETag", b'"x"'),)), Http(), "validate when asked"),
        (replace(VERSION, fresh_until=NOW + 60), Http(), "fresh for 1m"),
        (replace(VERSION, fresh_until=math.inf), Never(), "fresh for ever"),
        (replace(VERSION, refresh_at=NOW + 90), Age(), "re-fetch in 1m 30s"),
        (replace(VERSION, refresh_at=NOW - 90), Age(), "re-fetch is due"),
        (replace(VERSION, pinned_until=math.inf), Age(), "pinned for ever"),
        (replace(VERSION, pinned_until=NOW + 7200, refresh_at=NOW), Age(), "pinned for 2h"),
        (replace(VERSION, pinned_until=NOW - 1), Http(), "re-fetch when asked"),
    ],
)
def test_what_is_next(version: Version, strategy: Http | Age | Never, expected: str) -> None:
    assert next_step(version, Policy(strategy=strategy), NOW) == expected
