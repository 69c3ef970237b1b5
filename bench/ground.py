"""The ground that everything is measured on: origin and load generator on one core, the proxies on another.

`Ground.run` is one run of the load generator through one peer, with what it cost everybody.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.common import HERE, Result, on_core
from bench.peers import PEERS, Absent, Peer, Place
from tests.support.procs import ROOT, clean_env

SPARE_S = 60.0
NOTHING = {"requests": 0, "seconds": 0.0, "bytes": 0, "per_second": 0.0, "p50_us": 0, "p99_us": 0}
NONE = {**NOTHING, "first_us": 0, "busy": 0.0, "failed": 1}


@dataclass(frozen=True)
class Load:
    """What one run asks for: `count` URLs under `path` in turn (0: each is asked for once, ever).

    It ends after `seconds`, or after `limit` answers if that is not 0. `new`: each request has a connection
    of its own. `processes` generators run at a time.
    """

    scheme: str
    path: str
    count: int
    connections: int
    seconds: float
    limit: int = 0
    new: bool = False
    processes: int = 1


class Ground:
    """Origin, load generator and the peers that could be started."""

    def __init__(self, directory: Path, origin: dict[str, str], peers: Sequence[Peer]) -> None:
        self.generator, self.origin, self.peers = compile_load(directory), origin, list(peers)
        self.next_number = 0
        self.warmed: set[tuple[int, str, str, int]] = set()

    def run(self, load: Load, peer: Peer | None) -> Result:
        """One run; `peer` None goes direct to the origin.

        per_second, p50_us, p99_us, first_us, requests, bytes, seconds, failed: as bench/load.c prints them,
        of several processes the sum, the median or the worst. `busy` is their share of a core, `origin_busy`
        the origin's and `proxy_busy` the peer's, `cpu_us` the peer's processor time for each request,
        `origin_requests` what reached the origin.
        """
        command = self.command(load, peer)
        state, cpu_s = origin_state(self.origin), peer.cpu_s() if peer else 0.0
        pipe = subprocess.PIPE
        with on_core(1):
            running = [
                subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(load.processes)
            ]
        outcomes = [finished(process, load.seconds + SPARE_S) for process in running]
        used_s = (peer.cpu_s() if peer else 0.0) - cpu_s
        after = origin_state(self.origin)
        result = together(outcomes)
        self.next_number += (result["requests"] + load.connections) if load.count == 0 else 0
        return {
            **result,
            "cpu_us": used_s / max(1, result["requests"]) * 1e6,
            "proxy_busy": used_s / (result["seconds"] or 1.0),
            "origin_requests": after["requests"] - state["requests"],
            "origin_busy": (after["cpu_s"] - state["cpu_s"]) / (result["seconds"] or 1.0),
        }

    def command(self, load: Load, peer: Peer | None) -> list[str]:
        via = ["127.0.0.1", peer.port] if peer and peer.ports is None else ["-", 0]
        first = self.next_number if load.count == 0 else 0
        numbers = [load.path, first, load.count, load.connections, load.seconds]
        end = [*(["new"] if load.new else []), *([f"limit={load.limit}"] if load.limit else [])]
        where = [load.scheme, "127.0.0.1", self.port(load.scheme, peer)]
        return [str(part) for part in (self.generator, *via, *where, *numbers, *end)]

    def port(self, scheme: str, peer: Peer | None) -> str:
        """Where the URL points: the origin, or a reverse proxy in its place."""
        return (peer.ports if peer and peer.ports else self.origin)[scheme]


def finished(process: subprocess.Popen[str], limit_s: float) -> Result:
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {**NONE, "error": f"no end within {limit_s:.0f} s"}
    found: Result = json.loads(out) if out else {**NONE, "error": err[:300]}
    return found


def together(outcomes: Sequence[Result]) -> Result:
    summed = ("per_second", "requests", "bytes", "busy", "failed")
    middle, worst = ("p50_us", "first_us"), ("p99_us", "seconds")
    return {
        **{name: sum(outcome[name] for outcome in outcomes) for name in summed},
        **{name: statistics.median(outcome[name] for outcome in outcomes) for name in middle},
        **{name: max(outcome[name] for outcome in outcomes) for name in worst},
        "error": next((outcome["error"] for outcome in outcomes if "error" in outcome), None),
    }


def origin_state(origin: dict[str, str]) -> Result:
    """Requests that reached the origin so far, and its processor time in seconds."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{origin['http']}/state", timeout=20) as answer:
        state: Result = json.loads(answer.read())
    return state


def compile_load(directory: Path) -> Path:
    target = directory / "load"
    command = ["gcc", "-O2", "-D_GNU_SOURCE", "-o", str(target), str(HERE / "load.c"), "-lssl", "-lcrypto"]
    subprocess.run(command, check=True)
    return target


@contextmanager
def origin_process(directory: Path) -> Iterator[dict[str, str]]:
    """A running origin: its ports by scheme. Its authority is origin-ca.pem in the directory."""
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


@contextmanager
def ground(names: Sequence[str]) -> Iterator[Ground]:
    """Starts the origin and those of the named peers that can be had; says which cannot."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)  # squid gives up root
        origin = stack.enter_context(origin_process(directory))
        peers = []
        for name in names:
            try:
                peers.append(start_peer(name, directory, origin))
            except Absent as reason:
                print(f"without {name}: {reason}", file=sys.stderr)
                continue
            stack.callback(peers[-1].stop)
        yield Ground(directory, origin, peers)


def start_peer(name: str, directory: Path, origin: dict[str, str]) -> Peer:
    home = directory / name
    home.mkdir()
    with on_core(0):
        return PEERS[name](Place(home, origin))
