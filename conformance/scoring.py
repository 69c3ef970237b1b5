"""What results mean, as the suite itself counts them: a test passes only where all that it needs pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.suite import Test

KINDS = ("required", "optimal", "check")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`word` is "pass", "fail" (the test's own point), "setup" (what comes before it), "needs" (a test it
    depends on), "abort" (no answer) or "none" (not run); `why` is the suite's message."""

    word: str
    why: str = ""


def verdicts(tests: Mapping[str, Test], results: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdict of each test, by id."""
    found: dict[str, Verdict] = {}

    def judge(test: Test) -> Verdict:
        if test.id not in found:
            lacking = [n for n in test.needs if n in tests and judge(tests[n]).word != "pass"]
            own = _own(results.get(test.id))
            found[test.id] = Verdict("needs", ", ".join(lacking)) if lacking else own
        return found[test.id]

    return {name: judge(test) for name, test in tests.items()}


def _own(result: Any) -> Verdict:
    if result is True:
        return Verdict("pass")
    if result is None:
        return Verdict("none")
    kind, message = result
    return Verdict({"Setup": "setup", "AbortError": "abort"}.get(kind, "fail"), str(message))


def counts(tests: Mapping[str, Test], judged: Mapping[str, Verdict]) -> dict[str, tuple[int, int]]:
    """(passed, all) by kind."""
    return {
        kind: (
            sum(judged[t.id].word == "pass" for t in tests.values() if t.kind == kind),
            sum(t.kind == kind for t in tests.values()),
        )
        for kind in KINDS
    }
