"""`python -m conformance.run`: runs the suite, and fails if the counts are not those of results.txt."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from conformance import report, suite
from conformance.scoring import Verdict, verdicts
from conformance.suite import Test
from conformance.ways import WAYS, open_way

ABSENT: Final = 77
"""Exit code where there is no node, no npm, or no package index that can be reached."""


def main() -> int:
    options = _options()
    try:
        suite.install()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the suite cannot be had here: {error}", file=sys.stderr)
        return ABSENT
    tests = suite.tests()
    if options.id:
        return _one(options.ways[0], options.id)
    judged = {}
    for way in options.ways:
        judged[way] = _run(way, tests)
        print(report.count_line(way, tests, judged[way]), flush=True)
        _print_failures(tests, judged[way], every=options.verbose)
    if options.update:
        report.RESULTS.write_text(report.render(tests, judged))
        return 0
    return _compare(judged)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--id", default="", help="run one test the first way, and show its messages")
    parser.add_argument("--verbose", action="store_true", help="list optimal tests and checks as well")
    parser.add_argument("--update", action="store_true", help="write results.txt instead of comparing")
    options = parser.parse_args()
    if options.update and tuple(options.ways) != WAYS:
        parser.error("--update needs all ways")
    return options


def _run(way: str, tests: dict[str, Test]) -> dict[str, Verdict]:
    with tempfile.TemporaryDirectory() as folder, open_way(way, Path(folder)) as (base, env):
        return verdicts(tests, suite.run(base, env))


def _one(way: str, test_id: str) -> int:
    with tempfile.TemporaryDirectory() as folder, open_way(way, Path(folder)) as (base, env):
        print(suite.run(base, env, test_id))
    return 0


def _print_failures(tests: dict[str, Test], judged: dict[str, Verdict], *, every: bool) -> None:
    excused = report.known()
    for test in tests.values():
        verdict = judged[test.id]
        if verdict.word != "pass" and (every or test.kind == "required"):
            mark = " (known)" if test.id in excused else ""
            print(f"  {test.kind:8} {test.id}{mark}: {verdict.word}: {verdict.why}")


def _compare(judged: report.Judged) -> int:
    before = report.expected(report.RESULTS.read_text(), WAYS) if report.RESULTS.exists() else {}
    changed = report.changes(judged, before)
    for line in changed:
        print(f"  changed  {line}")
    if changed:
        print("results.txt is out of date, or something got worse: mend it, or run with --update")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
