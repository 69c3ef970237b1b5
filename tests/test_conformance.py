"""The runner's own arithmetic: verdicts, counts, changes. The suite itself runs with `make conformance`."""

from __future__ import annotations

from conformance import report
from conformance.scoring import Verdict, counts, verdicts
from conformance.suite import Test as Case

TESTS = {
    case.id: case
    for case in (
        Case("a", "g", "required", ()),
        Case("b", "g", "required", ("a",)),
        Case("c", "g", "optimal", ("b",)),
        Case("d", "g", "check", ()),
    )
}


def words(results: dict[str, object]) -> dict[str, str]:
    return {name: verdict.word for name, verdict in verdicts(TESTS, results).items()}


def test_a_test_needs_what_it_depends_on() -> None:
    assert words({"a": True, "b": True, "c": True, "d": True}) == dict.fromkeys("abcd", "pass")
    failed = {"a": ["Assertion", "no"], "b": True, "c": True, "d": True}
    assert words(failed) == {"a": "fail", "b": "needs", "c": "needs", "d": "pass"}


def test_kinds_of_failure() -> None:
    results = {"a": ["Setup", "retry"], "b": True, "d": ["AbortError", "late"]}
    assert words(results) == {"a": "setup", "b": "needs", "c": "needs", "d": "abort"}
    assert words({"a": True, "b": True}) == {"a": "pass", "b": "pass", "c": "none", "d": "none"}


def test_counts() -> None:
    judged = verdicts(TESTS, {"a": True, "b": ["Assertion", "no"], "c": True, "d": True})
    assert counts(TESTS, judged) == {"required": (1, 2), "optimal": (0, 1), "check": (1, 1)}


def judged(**words: str) -> dict[str, Verdict]:
    return {name: Verdict(words.get(name, "pass")) for name in TESTS}


def test_a_results_file_says_what_it_was_made_from() -> None:
    both = {"reverse": judged(b="fail"), "tls": judged(b="fail", d="setup")}
    text = report.render(TESTS, both)
    assert "required b fail" in text and "check d reverse=pass,tls=setup" in text
    before = report.expected(text, ("reverse", "tls"))
    assert before == {("reverse", "b"): "fail", ("tls", "b"): "fail", ("tls", "d"): "setup"}
    assert report.changes(both, before) == []


def test_changes_in_both_directions_show() -> None:
    before = {("tls", "b"): "fail"}
    assert report.changes({"tls": judged()}, before) == ["tls      b: was fail, is pass"]
    assert report.changes({"tls": judged(b="fail", a="fail")}, before) == ["tls      a: was pass, is fail"]


def test_the_kept_results_are_those_of_all_ways_and_as_good_as_promised() -> None:
    """At least 141 of 157 required and 80 of 86 optimal, and nothing required fails but what is known."""
    lines = report.RESULTS.read_text().splitlines()
    ways = [line.split() for line in lines if line.startswith(("reverse ", "forward ", "connect ", "tls "))]
    assert [way[0] for way in ways] == ["reverse", "forward", "connect", "tls"]
    for way in ways:
        assert int(way[2].partition("/")[0]) >= 141 and int(way[4].partition("/")[0]) >= 80
    failing = {line.split()[1] for line in lines if line.startswith("required ")}
    assert failing <= report.known().keys()
