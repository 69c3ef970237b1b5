"""Requests a second, side by side: hits, hits over many URLs, misses, new TLS connections.

Each round runs a measure through every peer in turn, so that what disturbs the machine disturbs all. Ratios
are medians of the ratios within a round.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.common import Result
from bench.ground import Ground, Load
from bench.peers import Peer

WARM_S = 300.0
FIGURES = ("per_second", "p50_us", "p99_us", "cpu_us", "proxy_busy", "busy", "origin_busy", "origin_requests")
NOT_FOR_MANY = "mitmdump"
"""Its dictionary does not mind how many there are, but filling it takes minutes."""


@dataclass(frozen=True)
class Measure:
    name: str
    load: Load


def measures(group: str, seconds: float, many: int) -> list[Measure]:
    rows = []
    for scheme in ("http", "https"):
        if group == "hits":
            for size, path, count in (("1 KiB", "/small/", 1000), ("100 KiB", "/large/", 1000)):
                for connections in (1, 32):
                    name = f"{scheme}, {size}, {counted(connections)}"
                    rows.append(Measure(name, Load(scheme, path, count, connections, seconds)))
        if group == "many":
            rows.append(Measure(f"{scheme}, {many:,} URLs", Load(scheme, "/small/", many, 32, seconds)))
        if group == "misses":
            for word, path in (("stored", "/kept/"), ("not stored", "/miss/")):
                for connections in (1, 32):
                    name = f"{scheme}, {word}, {counted(connections)}"
                    rows.append(Measure(name, Load(scheme, path, 0, connections, seconds)))
    if group == "tls":
        rows.append(
            Measure("new connections", Load("https", "/small/", 1, 1, seconds, new=True, processes=4))
        )
    return rows


def counted(connections: int) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}"


def rates(ground: Ground, group: str, rounds: int, seconds: float, many: int) -> list[Result]:
    """One row for each measure: {"name", "peers": {name: figures}}."""
    return [row_of(ground, group, measure, rounds) for measure in measures(group, seconds, many)]


def row_of(ground: Ground, group: str, measure: Measure, rounds: int) -> Result:
    print(f"  {measure.name}", file=sys.stderr, flush=True)
    peers: list[Peer | None] = [p for p in ground.peers if (group, p.name) != ("many", NOT_FOR_MANY)]
    if group == "misses":
        peers.append(None)
    else:
        for peer in peers:
            warm(ground, measure.load, peer)
    taken: dict[str, list[Result]] = {name_of(peer): [] for peer in peers}
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else reversed(peers):
            taken[name_of(peer)].append(ground.run(measure.load, peer))
    return {"name": measure.name, "peers": {name: median(runs, taken) for name, runs in taken.items()}}


def name_of(peer: Peer | None) -> str:
    return peer.name if peer else "direct"


def warm(ground: Ground, load: Load, peer: Peer | None) -> None:
    """Asks for every URL twice, if it was not done before: to store it, and to find it. What is missing after
    WARM_S shows later, as requests at the origin."""
    known = (peer.pid if peer else 0, load.scheme, load.path, load.count)
    if known in ground.warmed:
        return
    ground.warmed.add(known)
    all_of_them = replace(load, connections=8, seconds=WARM_S, limit=load.count, new=False, processes=1)
    for _ in range(2):
        ground.run(all_of_them, peer)


def median(runs: Sequence[Result], taken: dict[str, list[Result]]) -> Result:
    return {
        **{name: statistics.median(run[name] for run in runs) for name in FIGURES},
        "requests": statistics.median(run["requests"] for run in runs),
        "failed": sum(run["failed"] for run in runs),
        "error": next((run["error"] for run in runs if run["error"]), None),
        "of_squid": ratio(runs, taken.get("squid"), "per_second"),
        "p99_of_squid": ratio(runs, taken.get("squid"), "p99_us"),
        "cpu_of_squid": ratio(runs, taken.get("squid"), "cpu_us"),
        "over_direct_us": difference(runs, taken.get("direct")),
    }


def ratio(runs: Sequence[Result], base: Sequence[Result] | None, name: str) -> float | None:
    pairs = [(run[name], other[name]) for run, other in zip(runs, base or (), strict=False) if other[name]]
    return statistics.median(one / other for one, other in pairs) if pairs else None


def difference(runs: Sequence[Result], base: Sequence[Result] | None) -> float | None:
    """Median of what a request takes more than direct in the same round, in µs."""
    pairs = zip(runs, base or (), strict=False)
    return statistics.median(run["p50_us"] - other["p50_us"] for run, other in pairs) if base else None
