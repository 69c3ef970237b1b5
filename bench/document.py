"""`python -m bench.document` puts the figures of bench/out/results.json into docs/benchmarks.md, with plots.

What stands between `<!-- figures: NAME -->` and `<!-- end -->` is replaced, where there are figures of that
name: a key of results.json, or `aims`. The words around stay.
"""

from __future__ import annotations

import json
import re
import sys

from bench import claims, plots, report
from bench.common import OUT, Result
from tests.support.procs import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, results: Result) -> str:
    def one(found: re.Match[str]) -> str:
        name = found[2]
        if name == "aims":
            return f"{found[1]}{claims.markdown(results)}{found[3]}"
        return f"{found[1]}{report.section(results, name)}{found[3]}" if name in results else found[0]

    return PLACE.sub(one, text)


def main() -> None:
    results = json.loads((OUT / "results.json").read_text())
    if results["quick"]:
        print("these are the figures of a --quick run: for a look, not to be kept", file=sys.stderr)
    PAGE.write_text(filled(PAGE.read_text(), results))
    plots.draw(results, plots.DOCS)


if __name__ == "__main__":
    main()
