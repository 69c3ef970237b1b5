"""What plugins cost a hit that they have nothing to do with.

    python -m bench.plugins [--rounds N] [--seconds S] [--json]

Three servers over one origin: without plugins, with six plugins that do not implement the hooks of the hit
path, and with one that implements all three of these and answers None. They are measured in turns, in rounds
whose order changes; the figures are medians over the rounds, of hits a second and of CPU time a hit of all
the server's processes. The ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.common import on_core
from bench.ground import Ground, Load, origin_process
from bench.peers import Peer, Place, buffy
from bench.report import number, table
from bench.versus import warm

HEAD = "from dataclasses import dataclass\nfrom buffy_proxy import *\n@hookimpl\n"
SIX = {
    "strategy": "def register_strategies():\n    return []\n",
    "store": "def storability(default):\n    return None\n",
    "same": "def is_new_version(default):\n    return None\n",
    "alert": "def changed(key, version, previous):\n    pass\n",
    "fields": "def origin_request(fields):\n    return None\n",
    "errors": "def on_origin_error(default):\n    return None\n",
}
HOT = {
    "hot": "def cache_key(default):\n    return None\n"
    "@hookimpl\ndef select_version(default):\n    return None\n"
    "@hookimpl\ndef reuse(default):\n    return None\n",
}
KINDS: dict[str, dict[str, str]] = {"none": {}, "six": SIX, "hot": HOT}


def start(kind: str, directory: Path, origin: dict[str, str]) -> Peer:
    home = directory / kind
    (home / "plugins").mkdir(parents=True)
    for name, source in KINDS[kind].items():
        (home / "plugins" / f"{name}.py").write_text(HEAD + source)
    with on_core(0):
        return buffy(Place(home, origin))


def measure(ground: Ground, peer: Peer, load: Load) -> dict[str, float]:
    found = ground.run(load, peer)
    return {name: found[name] for name in ("per_second", "cpu_us")}


def run(rounds: int, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin = stack.enter_context(origin_process(directory))
        peers = {kind: start(kind, directory, origin) for kind in KINDS}
        for peer in peers.values():
            stack.callback(peer.stop)
        ground, load = Ground(directory, origin, []), Load("http", "/small/", 1000, 32, seconds)
        for peer in peers.values():
            warm(ground, load, peer)
        taken: list[dict[str, dict[str, float]]] = []
        for number_ in range(rounds):
            order = list(peers) if number_ % 2 == 0 else list(peers)[::-1]
            taken.append({kind: measure(ground, peers[kind], load) for kind in order})
    return {kind: summary(taken, kind) for kind in KINDS}


def summary(taken: list[dict[str, dict[str, float]]], kind: str) -> dict[str, float]:
    def median(name: str) -> float:
        return statistics.median(round_[kind][name] for round_ in taken)

    def ratio(name: str) -> float:
        return statistics.median(round_[kind][name] / round_["none"][name] for round_ in taken)

    return {
        "per_second": median("per_second"),
        "cpu_us": median("cpu_us"),
        "per_second_ratio": ratio("per_second"),
        "cpu_ratio": ratio("cpu_us"),
    }


WORDS = {
    "none": "no plugins",
    "six": "six that do not implement the hit path's hooks",
    "hot": "one that implements all three and answers None",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = run(options.rounds, options.seconds)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    rows = (
        (
            WORDS[kind],
            number(found["per_second"]),
            f"{found['per_second_ratio']:.3f}",
            f"{found['cpu_us']:.1f}",
            f"{found['cpu_ratio']:.3f}",
        )
        for kind, found in results.items()
    )
    print(table(("plugins", "hits/s", "ratio", "CPU µs a hit", "ratio"), rows))


if __name__ == "__main__":
    main()
