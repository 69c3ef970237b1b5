"""Buffy beside others: `python -m bench.versus [--quick] [--rounds N] [--only NAME …] [--peers NAME …]`.

Each round runs every measure against every peer in turn, so that what disturbs the machine disturbs all. The
proxy has one core, load generator and origin the other. Medians over the rounds, and ratios to Squid, go to
bench/out/versus.md and versus.json. It never fails on a figure. "busy" is the share of a core that the load
generator used: at 0.25 it could have asked for four times as much.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.objects import big, object_rows, together
from bench.peers import PEERS, Absent, Peer, Place, on_core
from bench.report import number, table
from bench.run import OUT, compile_load, machine
from tests.support.procs import ROOT, clean_env

Result = dict[str, Any]
SPARE_S = 120.0


@dataclass(frozen=True)
class Measure:
    """One row: `count` URLs under `path` (0: each is asked for once), `processes` generators at a time."""

    group: str
    name: str
    scheme: str
    path: str
    count: int
    connections: int
    processes: int = 1
    new: bool = False


def measures() -> list[Measure]:
    rows = []
    for scheme in ("http", "https"):
        for size, path in (("1 KiB", "/small/"), ("100 KiB", "/large/")):
            for connections in (1, 32):
                name = f"{scheme}, {size}, {connections} connections"
                rows.append(Measure("hits", name, scheme, path, 1000, connections))
        rows.append(Measure("many", f"{scheme}, 100,000 URLs", scheme, "/small/", 100_000, 32))
        for connections in (1, 32):
            name = f"{scheme}, {connections} connections"
            rows.append(Measure("misses", name, scheme, "/kept/", 0, connections))
    rows.append(Measure("tls", "new TLS connections", "https", "/small/", 1, 1, 4, True))
    return rows


class Versus:
    """Origin, generator and the peers that could be started."""

    def __init__(self, directory: Path, origin: dict[str, str], peers: list[Peer], seconds: float) -> None:
        self.load, self.origin, self.peers, self.seconds = compile_load(directory), origin, peers, seconds
        self.next_number = 0

    def once(self, measure: Measure, peer: Peer | None, seconds: float) -> Result:
        """One run; `peer` None goes direct to the origin. Sums the processes, keeps the worst p99."""
        first = self.next_number if measure.count == 0 else 0
        commands = [self.command(measure, peer, first, seconds)] * measure.processes
        pipe = subprocess.PIPE
        with on_core(1):
            running = [subprocess.Popen(c, stdout=pipe, stderr=pipe, text=True) for c in commands]
        outcomes = [finished(process, seconds + SPARE_S) for process in running]
        self.next_number += sum(int(outcome["requests"]) for outcome in outcomes) + measure.connections
        return {
            "per_second": sum(outcome["per_second"] for outcome in outcomes),
            "requests": sum(outcome["requests"] for outcome in outcomes),
            "p50_us": statistics.median(outcome["p50_us"] for outcome in outcomes),
            "p99_us": max(outcome["p99_us"] for outcome in outcomes),
            "busy": sum(outcome["busy"] for outcome in outcomes),
            "failed": sum(outcome["failed"] for outcome in outcomes),
            "error": next((o["error"] for o in outcomes if "error" in o), None),
        }

    def command(self, measure: Measure, peer: Peer | None, first: int, seconds: float) -> list[str]:
        reverse = peer is None or peer.ports is not None
        via = ["-", 0] if reverse else ["127.0.0.1", peer.port if peer else 0]
        port = (peer.ports if peer and peer.ports else self.origin)[measure.scheme]
        numbers = [measure.path, first, measure.count, measure.connections, seconds]
        end = ["new"] if measure.new else []
        return [str(part) for part in (self.load, *via, measure.scheme, "127.0.0.1", port, *numbers, *end)]

    def warm(self, measure: Measure, peer: Peer) -> None:
        """Asks for every URL once. Bounded: a slow peer is measured with what it has by then."""
        asked, rest = 0, measure.count
        step = Measure("", "", measure.scheme, measure.path, measure.count, 8)
        for _ in range(int(SPARE_S)):
            asked += int(self.once(step, peer, 1.0 if rest <= 1000 else 5.0)["requests"])
            if asked >= rest or asked == 0:
                return


def finished(process: subprocess.Popen[str], limit: float) -> Result:
    nothing = {"requests": 0, "per_second": 0.0, "p50_us": 0, "p99_us": 0, "failed": 1, "busy": 0.0}
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {**nothing, "error": f"no end within {limit:.0f} s"}
    found: Result = json.loads(out) if out else {**nothing, "error": err[:300]}
    return found


@contextmanager
def origin_process(directory: Path) -> Iterator[dict[str, str]]:
    pipe = subprocess.PIPE
    with on_core(1):
        command = [sys.executable, "-m", "bench.origin", str(directory)]
        process = subprocess.Popen(command, cwd=ROOT, env=clean_env(), stdin=pipe, stdout=pipe, text=True)
    try:
        assert process.stdout is not None
        http, https = process.stdout.readline().split()
        yield {"http": http, "https": https}
    finally:
        process.kill()
        process.wait()


def start_peers(names: list[str], directory: Path, origin: dict[str, str], stack: ExitStack) -> list[Peer]:
    peers = []
    for name in names:
        home = directory / name
        home.mkdir()
        try:
            with on_core(0):
                peer = PEERS[name](Place(home, origin))
        except Absent as reason:
            print(f"without {name}: {reason}", file=sys.stderr)
            continue
        stack.callback(peer.stop)
        peers.append(peer)
    return peers


def run(bench: Versus, chosen: list[Measure], rounds: int) -> list[Result]:
    rows = []
    for measure in chosen:
        print(f"{measure.group}: {measure.name} …", file=sys.stderr, flush=True)
        peers: dict[str, Peer | None] = {peer.name: peer for peer in bench.peers}
        if measure.group == "misses":
            peers["direct"] = None
        else:
            for peer in bench.peers:
                bench.warm(measure, peer)
        taken: dict[str, list[Result]] = {name: [] for name in peers}
        for _ in range(rounds):
            for name, one in peers.items():
                taken[name].append(bench.once(measure, one, bench.seconds))
        medians = {name: median(results) for name, results in taken.items()}
        rows.append({"group": measure.group, "name": measure.name, "peers": medians})
    return rows


def median(results: list[Result]) -> Result:
    names = ("per_second", "p50_us", "p99_us", "busy")
    middle: Result = {name: statistics.median(result[name] for result in results) for name in names}
    return {**middle, "failed": sum(r["failed"] for r in results), "error": results[-1]["error"]}


def markdown(results: Result) -> str:
    cells = []
    for row in results["rows"]:
        base = row["peers"].get("squid", {}).get("per_second", 0)
        for name, found in row["peers"].items():
            ratio = f"{found['per_second'] / base:.2f}" if base else "–"
            figures = (number(found["per_second"]), ratio, f"{found['p50_us']:.0f}", f"{found['p99_us']:.0f}")
            cells.append(
                (f"{row['group']}: {row['name']}", name, *figures, f"{found['busy']:.2f}", found["failed"])
            )
    names = ("what", "through", "per second", "× Squid", "p50 µs", "p99 µs", "busy", "failed")
    parts = [table(names, cells)] if cells else []
    parts += [object_rows(results["objects"])] if results["objects"] else []
    return f"## Side by side\n\nMedian of {results['rounds']} rounds.\n\n" + "\n".join(parts)


def main() -> None:
    groups = [*dict.fromkeys(measure.group for measure in measures()), "big", "together"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs; leaves out 100,000 URLs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=groups)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    wanted = parser.parse_args()
    only = wanted.only or [name for name in groups if not (wanted.quick and name == "many")]
    chosen = [measure for measure in measures() if measure.group in only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the peers would outlive us
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)  # squid gives up root
        origin = stack.enter_context(origin_process(directory))
        peers = start_peers(wanted.peers, directory, origin, stack)
        bench = Versus(directory, origin, peers, 0.5 if wanted.quick else 3.0)
        rows = run(bench, chosen, wanted.rounds)
        objects = big(peers, origin, wanted.rounds) if "big" in only else []
        objects += together(peers, origin, wanted.rounds) if "together" in only else []
    results = {"machine": machine(), "rounds": wanted.rounds, "rows": rows, "objects": objects}
    OUT.mkdir(exist_ok=True)
    (OUT / "versus.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / "versus.md").write_text(markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
