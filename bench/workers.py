"""What a hit costs with several workers: `python -m bench.workers [OPTION …]`.

A server for each number of workers, all at once; each round runs the load generator against each in turn, so
that what disturbs the machine disturbs all. CPU time per hit is user and system time of all the proxy's
processes over the answers that came. Hits per second say something only where there are cores to spare:
the load generator wants one for itself. Medians over the rounds; writes workers.md and workers.json.

A second core that is busy makes the first one slower on many machines, whoever keeps it busy. `--one-core`
has all workers of a server on one core, and the generator on another: what sharing itself costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

from bench.common import OUT, Result, cpu_s, on_core
from bench.ground import compile_load, origin_process
from bench.report import workers as markdown
from tests.support.buffy import Buffy
from tests.support.workers import workers

URLS = 1000
WARM_S = 120.0


class Case:
    """One server; `run` is one measurement."""

    def __init__(
        self, count: int, directory: Path, origin: dict[str, str], load: Path, *, one_core: bool
    ) -> None:
        self.one_core = one_core
        home = directory / str(count)
        home.mkdir()
        env = {"SSL_CERT_FILE": str(directory / "origin-ca.pem")}
        config = f'log_level = "warning"\nworkers = {count}\n'
        self.count, self.origin, self.load = count, origin, load
        with on_core(0) if one_core else nullcontext():
            self.server = Buffy(home, config, env).start()
        self.pids = workers(self.server)

    def run(self, scheme: str, connections: int, seconds: float, limit: int = 0) -> Result:
        """Ends after `limit` answers if that is not 0."""
        numbers = ["/small/", 0, URLS, connections, seconds, *([f"limit={limit}"] if limit else [])]
        command = [self.load, *self.server.proxy, scheme, "127.0.0.1", self.origin[scheme], *numbers]
        before = [cpu_s([pid]) for pid in self.pids]
        with on_core(1) if self.one_core else nullcontext():
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
        used = [cpu_s([pid]) - began for pid, began in zip(self.pids, before, strict=True)]
        said = json.loads(done.stdout)
        return {
            "cpu_us": sum(used) / said["requests"] * 1e6,
            "per_second": said["per_second"],
            "p99_us": said["p99_us"],
            "least_busy": min(used) / max(used),
            "failed": said["failed"],
        }


def measure(cases: list[Case], rounds: int, seconds: float) -> list[Result]:
    rows = []
    for scheme in ("http", "https"):
        for case in cases:
            case.run(scheme, 32, WARM_S, limit=30 * URLS)  # each worker has to see each URL
        for connections in (32, 64):
            taken: dict[int, list[Result]] = {case.count: [] for case in cases}
            for _ in range(rounds):
                for case in cases:
                    taken[case.count].append(case.run(scheme, connections, seconds))
            rows += [summary(scheme, connections, count, taken) for count in taken]
    return rows


def summary(scheme: str, connections: int, count: int, taken: dict[int, list[Result]]) -> Result:
    """Medians; the ratios are those to the first case, round by round."""
    mine, first = taken[count], next(iter(taken.values()))
    pairs = list(zip(mine, first, strict=True))
    middle = {name: statistics.median(each[name] for each in mine) for name in mine[0] if name != "failed"}
    ratios = {
        f"{name}_ratio": statistics.median(one[name] / base[name] for one, base in pairs)
        for name in ("cpu_us", "per_second")
    }
    failed = sum(each["failed"] for each in mine)
    row = {"scheme": scheme, "connections": connections, "workers": count}
    return {**row, **middle, **ratios, "failed": failed}


def rows(counts: Sequence[int], seconds: float, rounds: int, *, one_core: bool = False) -> list[Result]:
    """A row for each scheme, connections and number of workers. Ratios are to the first number."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin, load = stack.enter_context(origin_process(directory)), compile_load(directory)
        cases = []
        for count in counts:
            cases.append(Case(count, directory, origin, load, one_core=one_core))
            stack.callback(cases[-1].server.discard)
        return measure(cases, rounds, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--workers", type=int, nargs="*", default=[1, 2], help="the first is what others compare to"
    )
    parser.add_argument("--one-core", action="store_true", help="all workers on one core")
    wanted = parser.parse_args()
    found = rows(wanted.workers, 0.5 if wanted.quick else 2.0, wanted.rounds, one_core=wanted.one_core)
    OUT.mkdir(exist_ok=True)
    (OUT / "workers.json").write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "workers.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
