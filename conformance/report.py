"""results.txt: the counts of each way, and every test that does not pass, one a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from conformance.scoring import KINDS, Verdict, counts
from conformance.suite import Test

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.txt"
KNOWN = HERE / "known.txt"

Judged = Mapping[str, Mapping[str, Verdict]]
"""Verdicts by way and test id."""


def known() -> dict[str, str]:
    """Tests whose expectation contradicts today's RFC text, and why, from known.txt."""
    lines = [line for line in KNOWN.read_text().splitlines() if line and not line.startswith("#")]
    return {name: why.strip() for name, _, why in (line.partition(" ") for line in lines)}


def count_line(way: str, tests: Mapping[str, Test], judged: Mapping[str, Verdict]) -> str:
    found = counts(tests, judged)
    return f"{way:8} " + "  ".join(f"{kind} {found[kind][0]}/{found[kind][1]}" for kind in KINDS)


def render(tests: Mapping[str, Test], judged: Judged) -> str:
    """The whole file."""
    lines = ["# Written by `make conformance UPDATE=1`. Counts, then the tests that do not pass.", ""]
    lines += [count_line(way, tests, found) for way, found in judged.items()]
    excused = known()
    for kind in KINDS:
        lines.append("")
        for test in (test for test in tests.values() if test.kind == kind):
            words = {way: found[test.id].word for way, found in judged.items()}
            if set(words.values()) != {"pass"}:
                mark = " known" if test.id in excused else ""
                lines.append(f"{kind} {test.id} {_words(words)}{mark}")
    return "\n".join(lines) + "\n"


def _words(words: Mapping[str, str]) -> str:
    """One word where all ways agree."""
    return (
        next(iter(words.values()))
        if len(set(words.values())) == 1
        else ",".join(f"{way}={word}" for way, word in words.items())
    )


def expected(text: str, ways: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """(way, test id) -> word for what a results file says does not pass."""
    found = {}
    for line in text.splitlines():
        if match := re.match(rf"(?:{'|'.join(KINDS)}) (\S+) (\S+)", line):
            for way in ways:
                each = dict(pair.split("=") for pair in match[2].split(",") if "=" in pair)
                if (word := each.get(way, "pass") if each else match[2]) != "pass":
                    found[way, match[1]] = word
    return found


def changes(judged: Judged, before: Mapping[tuple[str, str], str]) -> list[str]:
    """What differs from the file, in words; empty if nothing does."""
    lines = []
    for way, found in judged.items():
        for name, verdict in found.items():
            was = before.get((way, name), "pass")
            if was != verdict.word:
                lines.append(f"{way:8} {name}: was {was}, is {verdict.word} {verdict.why}".rstrip())
    return lines
