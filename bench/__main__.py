"""The benchmark: `python -m bench [--quick] [--only GROUP …] [--peers NAME …] [--rounds N] [--largest]`.

Runs Buffy beside Squid, nginx and mitmdump, as far as they are installed, and measures its store and client.
Writes results.md and results.json to bench/out, and plots to docs/img (those of a --quick or partial run to
bench/out). It never fails on a figure. What a group measures is in bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import (
    claims,
    client,
    http2,
    listing,
    lookup,
    objects,
    parts,
    plots,
    report,
    scale,
    versus,
    workers,
)
from bench.common import OUT, Result, machine
from bench.ground import Ground, ground
from bench.peers import PEERS, Absent


@dataclass(frozen=True)
class Size:
    """How long and how often. `many` URLs; `largest` store, in versions; `transfers` of 1 GiB each way."""

    seconds: float
    rounds: int
    many: int
    largest: int
    transfers: int


QUICK = Size(0.3, 1, 5_000, 10_000, 1)
WHOLE = Size(2.0, 5, 100_000, 1_000_000, 3)
STORES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
Beside = Callable[[Ground, Size], Any]
Alone = Callable[[Size], Any]


def rates(group: str) -> Beside:
    return lambda found, size: versus.rates(found, group, size.rounds, size.seconds, size.many)


BESIDE: dict[str, Beside] = {
    **{group: rates(group) for group in ("hits", "many", "misses", "tls")},
    "big": lambda found, size: objects.big(found, size.transfers),
    "upload": lambda found, size: objects.upload(found, size.transfers),
    "late": lambda found, size: objects.late(found, size.transfers),
    "together": lambda found, size: objects.crowd(found, size.rounds),
}
"""Through all peers on one ground."""
ALONE: dict[str, Alone] = {
    "http2": lambda size: http2.rows(max(1.0, size.seconds), size.transfers),
    "parts": lambda size: parts.hit_parts(max(1.0, size.seconds)),
    "workers": lambda size: workers.rows((1, 2), size.seconds, size.rounds),
    "lookup": lambda size: lookup.lookups(sizes(size.largest)),
    "scale": lambda size: scale.rows_of(sizes(size.largest)),
    "client": lambda size: client.rows_of(size.seconds, client.old_python(None)),
    "listing": lambda size: listing.rows(),
}
"""Buffy by itself."""


def sizes(largest: int) -> list[int]:
    return [size for size in STORES if size <= largest]


def measured(group: str, run: Callable[[], Any]) -> Any:
    """What `run` gives, or why it gave nothing: one that cannot be measured must not cost the others."""
    print(f"{time.strftime('%H:%M:%S')} {group}", file=sys.stderr, flush=True)
    try:
        return run()
    except Absent as reason:
        found = str(reason)
    except Exception as failure:
        found = f"{type(failure).__name__}: {failure}"
    print(f"  not measured: {found}", file=sys.stderr)
    return {"absent": found}


def measure(groups: list[str], peers: list[str], size: Size, results: Result) -> None:
    """Fills in the results group by group, and writes them each time."""
    beside = [group for group in BESIDE if group in groups]
    with ground(peers if beside else []) as found:
        for group in beside:
            results[group] = measured(group, partial(BESIDE[group], found, size))
            write(results)
    for group in (group for group in ALONE if group in groups):
        results[group] = measured(group, partial(ALONE[group], size))
        write(results)


def write(results: Result) -> None:
    OUT.mkdir(exist_ok=True)
    (OUT / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / "results.md").write_text(markdown(results))


def markdown(results: Result) -> str:
    word = (
        "short runs: read no ratios from them"
        if results["quick"]
        else f"medians of {results['rounds']} rounds"
    )
    title = f"# Benchmark\n\n{word}\n\n## Aims\n\n{claims.markdown(results)}"
    return f"{title}\n{report.markdown(results)}"


def earlier() -> Result:
    """What the last run wrote."""
    file = OUT / "results.json"
    return json.loads(file.read_text()) if file.exists() else {}


def main() -> None:
    groups = [*BESIDE, *ALONE]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="everything for a moment: does it work?")
    parser.add_argument("--only", nargs="+", choices=groups, metavar="GROUP", help=f"of {', '.join(groups)}")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, help=f"of the groups side by side (default {WHOLE.rounds})")
    parser.add_argument("--largest", action="store_true", help="stores of up to 10,000,000 versions")
    wanted = parser.parse_args()
    size = QUICK if wanted.quick else WHOLE
    rounds, largest = wanted.rounds or size.rounds, STORES[-1] if wanted.largest else size.largest
    size = Size(size.seconds, rounds, size.many, largest, min(rounds, size.transfers))
    results = {
        **(earlier() if wanted.only else {}),
        "machine": machine(),
        "quick": wanted.quick,
        "rounds": rounds,
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the peers would outlive us
    measure(wanted.only or groups, wanted.peers, size, results)
    print(markdown(results))
    plots.draw(results, OUT if wanted.quick or wanted.only else plots.DOCS)


if __name__ == "__main__":
    main()
