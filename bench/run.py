"""The benchmark: `python -m bench.run [--quick] [--only NAME …]`. Writes results.* to bench/out.

It measures and never fails on a figure. Every speed is the median of several runs; the load generator is
bench/load.c (epoll, keep-alive, one thread), the origin a process of its own, the server the real one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.report import markdown
from tests.support.bodies import BLOCK
from tests.support.buffy import Buffy
from tests.support.procs import ROOT, clean_env
from tests.support.wire import connect, request_bytes

HERE = Path(__file__).parent
OUT = HERE / "out"
GIB = 1 << 30
Result = dict[str, Any]


class Bench:
    """The parts that run: origins, server, load generator."""

    def __init__(self, directory: Path, seconds: float, runs: int) -> None:
        self.directory, self.seconds, self.runs = directory, seconds, runs
        self.load = compile_load(directory)
        self.next_number = 0
        command = [sys.executable, "-m", "bench.origin", str(directory)]
        pipe = subprocess.PIPE
        self.origin = subprocess.Popen(command, cwd=ROOT, env=clean_env(), stdin=pipe, stdout=pipe, text=True)
        assert self.origin.stdout is not None
        http, https = self.origin.stdout.readline().split()
        self.ports = {"http": http, "https": https}
        env = {"SSL_CERT_FILE": str(directory / "origin-ca.pem")}
        self.server = Buffy(directory, 'log_level = "warning"\n', env).start()

    def close(self) -> None:
        self.server.discard()
        self.origin.kill()
        self.origin.wait()

    def url(self, scheme: str, path: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}{path}"

    def requests(self, scheme: str, path: str, connections: int, count: int, direct: bool = False) -> Result:
        """One run of the load generator. `count` 0: each URL is asked for once, ever."""
        host, port = ("-", 0) if direct else self.server.proxy
        first = self.next_number if count == 0 else 0
        numbers = [path, first, count, connections, self.seconds]
        command = [self.load, host, port, scheme, "127.0.0.1", self.ports[scheme], *numbers]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if not done.stdout:
            return {"per_second": 0.0, "p50_us": 0, "p99_us": 0, "error": done.stderr[:300]}
        result: Result = json.loads(done.stdout)
        self.next_number += int(result["requests"]) + connections
        return result

    def median(self, scheme: str, path: str, connections: int, count: int, direct: bool = False) -> Result:
        """The median of several runs, each figure for itself."""
        results = [self.requests(scheme, path, connections, count, direct) for _ in range(self.runs)]
        names = ("per_second", "p50_us", "p99_us")
        return {name: statistics.median(result[name] for result in results) for name in names} | {
            "failed": sum(result.get("failed", 1) for result in results)
        }


def compile_load(directory: Path) -> Path:
    target = directory / "load"
    command = ["gcc", "-O2", "-D_GNU_SOURCE", "-o", str(target), str(HERE / "load.c"), "-lssl", "-lcrypto"]
    subprocess.run(command, check=True)
    return target


def hits(bench: Bench) -> list[Result]:
    """Keep-alive hits over 1,000 URLs of 1 KiB, which the first run stores."""
    rows = []
    for scheme in ("http", "https"):
        bench.requests(scheme, "/small/", 8, 1000)
        for connections in (1, 32):
            result = bench.median(scheme, "/small/", connections, 1000)
            rows.append({"scheme": scheme, "connections": connections, **result})
    return rows


def misses(bench: Bench) -> list[Result]:
    """The same client direct, through Buffy without storing, and through Buffy with storing."""
    rows = []
    for scheme in ("http", "https"):
        for connections in (1, 32):
            for kind, path, direct in (
                ("direct", "/miss/", True),
                ("miss, not stored", "/miss/", False),
                ("miss, stored", "/kept/", False),
            ):
                result = bench.median(scheme, path, connections, 0, direct)
                rows.append({"scheme": scheme, "connections": connections, "kind": kind, **result})
    return rows


def first_byte(bench: Bench) -> Result:
    """Milliseconds to the first body byte of an answer whose origin needs another second for its end."""
    url, path = bench.url("http", "/late"), "/late"
    authority = url.removeprefix("http://").partition("/")[0]
    origin = ("127.0.0.1", int(bench.ports["http"]))

    def once(address: tuple[str, int], target: str) -> float:
        with connect(address) as connection:
            connection.send(request_bytes("GET", target, authority))
            began = connection.sent_at
            next(connection.body_chunks(connection.head()))
            return (time.monotonic() - began) * 1000

    turns = range(3 + 2 * bench.runs)
    return {
        "direct_ms": statistics.median(once(origin, path) for _ in turns),
        "buffy_ms": statistics.median(once(bench.server.proxy, url) for _ in turns),
    }


@contextmanager
def peak_memory(server: Buffy) -> Iterator[list[int]]:
    """Growth of anonymous memory of all the server's processes, at most, in bytes."""
    before, grown, stop = server.memory(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            grown[0] = max(grown[0], server.memory() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        stop.set()
        watcher.join()


def big(bench: Bench) -> list[Result]:
    """1 GiB with curl: direct, miss, hit, upload; MB/s and memory growth."""
    rows = []
    upload = bench.directory / "upload"
    with upload.open("wb") as file:
        file.truncate(GIB)
    for scheme in ("http", "https"):
        for run in range(1, min(bench.runs, 3) + 1):
            url = bench.url(scheme, f"/big/{run}")
            for kind, options in (
                ("direct", ["--noproxy", "*", "-k", url]),
                ("miss", [url]),
                ("hit", [url]),
                ("upload direct", ["--noproxy", "*", "-k", "-T", str(upload), bench.url(scheme, "/upload")]),
                ("upload", ["-T", str(upload), bench.url(scheme, "/upload")]),
            ):
                rows.append({"scheme": scheme, "kind": kind, **transfer(bench, options)})
                time.sleep(1)
    return [merged(rows, scheme, kind) for scheme in ("http", "https") for kind in kinds(rows)]


def kinds(rows: list[Result]) -> list[str]:
    return list(dict.fromkeys(row["kind"] for row in rows))


def merged(rows: list[Result], scheme: str, kind: str) -> Result:
    same = [row for row in rows if (row["scheme"], row["kind"]) == (scheme, kind)]
    speed = statistics.median(row["mb_per_s"] for row in same)
    grown = max(row["memory_mib"] for row in same)
    return {"scheme": scheme, "kind": kind, "mb_per_s": speed, "memory_mib": grown}


def transfer(bench: Bench, options: list[str]) -> Result:
    url, rest = options[-1], options[:-1]
    with peak_memory(bench.server) as grown:
        began = time.monotonic()
        done = bench.server.curl(url, "-o", os.devnull, *rest)
        took = time.monotonic() - began
    speed = GIB / took / 1e6 if done.returncode == 0 else 0.0
    return {"mb_per_s": speed, "memory_mib": grown[0] / BLOCK}


def lookup() -> Any:
    """What bench/lookup.py measured: the cost of one look-up by the number of stored versions."""
    command = [sys.executable, "-m", "bench.lookup", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"error": (done.stderr or done.stdout)[-500:]}


def machine() -> Result:
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "?")
    names = ("mitmproxy", "lmdb", "uvloop")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: installed(name) for name in names},
    }


def installed(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "-"


MEASURES: dict[str, Callable[[Bench], Any]] = {
    "hits": hits,
    "misses": misses,
    "first_byte": first_byte,
    "big": big,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--only", nargs="*", choices=[*MEASURES, "lookup"], help="keep the other figures")
    wanted = parser.parse_args()
    names = wanted.only or [*MEASURES, "lookup"]
    results = {**(earlier() if wanted.only else {}), "machine": machine()}
    seconds, runs = (1.0, 1) if wanted.quick else (3.0, 5)
    with tempfile.TemporaryDirectory() as directory, closing(Bench(Path(directory), seconds, runs)) as bench:
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            results[name] = MEASURES[name](bench) if name in MEASURES else lookup()
    OUT.mkdir(exist_ok=True)
    (OUT / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / "results.md").write_text(markdown(results))
    print(markdown(results))


def earlier() -> Result:
    """What the last run wrote."""
    file = OUT / "results.json"
    return json.loads(file.read_text()) if file.exists() else {}


if __name__ == "__main__":
    main()
