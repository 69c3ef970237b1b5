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
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.report import number, table
from bench.run import Bench
from tests.support.buffy import Buffy

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
KINDS = {"none": {}, "six": SIX, "hot": HOT}
TICK = os.sysconf("SC_CLK_TCK")


def start(directory: Path, plugins: dict[str, str]) -> Buffy:
    (directory / "plugins").mkdir(parents=True)
    for name, source in plugins.items():
        (directory / "plugins" / f"{name}.py").write_text(HEAD + source)
    env = {"SSL_CERT_FILE": str(directory.parent / "origin-ca.pem")}
    return Buffy(directory, 'log_level = "warning"\n', env).start()


def cpu_s(server: Buffy) -> float:
    """CPU seconds of all its processes."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in server.pids()]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICK


def measure(bench: Bench, server: Buffy, connections: int) -> dict[str, float]:
    host, port = server.proxy
    before = cpu_s(server)
    numbers = ["/small/", 0, 1000, connections, bench.seconds]
    command = [bench.load, host, port, "http", "127.0.0.1", bench.ports["http"], *numbers]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    return {
        "per_second": result["per_second"],
        "cpu_us": (cpu_s(server) - before) / max(1, result["requests"]) * 1e6,
    }


def run(rounds: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), seconds, 1)
        bench.server.discard()
        servers = {kind: start(Path(folder) / kind, plugins) for kind, plugins in KINDS.items()}
        try:
            for server in servers.values():
                measure(bench, server, 8)  # stores, and warms up
            taken: list[dict[str, dict[str, float]]] = []
            for number_ in range(rounds):
                order = list(servers) if number_ % 2 == 0 else list(servers)[::-1]
                taken.append({kind: measure(bench, servers[kind], 32) for kind in order})
        finally:
            for server in servers.values():
                server.discard()
            bench.origin.kill()
            bench.origin.wait()
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
